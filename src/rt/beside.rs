//! A thread beside a core, for what blocks.

use std::any::Any;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::mpsc::{self, Sender};
use std::task::Poll;
use std::thread;

use rustix::event::{EventfdFlags, eventfd};

use super::readiness::{Sockets, Watched};

type Job = Box<dyn FnOnce() + Send>;

/// Ends when this is dropped and its jobs are done.
pub(crate) struct Beside {
    jobs: Sender<Job>,
    /// Readable when a job is done.
    done: Watched,
}

impl Beside {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// For want of a thread or a descriptor.
    pub(crate) fn start(name: &str, sockets: &Rc<Sockets>) -> io::Result<Beside> {
        let done = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let event: OwnedFd = done.try_clone()?;
        let (jobs, received) = mpsc::channel::<Job>();
        let work = move || {
            for job in received {
                job();
                rustix::io::write(&event, &1_u64.to_ne_bytes()).expect("a count of jobs has room");
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Beside { jobs, done: sockets.watch(done)? })
    }

    /// Runs `work`, for one caller at a time.
    ///
    /// # Panics
    ///
    /// When `work` does, here instead of there.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = mpsc::channel::<Result<T, Box<dyn Any + Send>>>();
        let job = move || {
            // Whoever waited may be gone with his core.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        };
        self.jobs.send(Box::new(job)).expect("the thread lives as long as this does");
        let result = poll_fn(|context| {
            loop {
                if let Ok(result) = result.try_recv() {
                    return Poll::Ready(result);
                }
                match self.done.poll_readable(context) {
                    Poll::Ready(()) => self.done.would_block(),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        result.await.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

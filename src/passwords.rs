//! Passwords: argon2id on threads of their own, away from the cores that serve.

mod attempts;
pub(crate) mod rules;

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use futures_channel::oneshot;

use crate::random;

pub(crate) use attempts::TooManyAttempts;
use attempts::{Attempt, Attempts};

/// Jobs that may wait. One takes some 15 ms, so the last of them waits a second.
const QUEUE_MAX: usize = 64;

/// Password lengths in characters, as NIST SP 800-63B counts and JSON Schema does: its
/// least for a password that stands alone, and a bound for what is hashed.
pub(crate) const PASSWORD_CHARS_MIN: usize = 8;
pub(crate) const PASSWORD_CHARS_MAX: usize = 128;

/// Whether a new password has the length that one has to have.
pub(crate) fn has_good_length(password: &str) -> bool {
    (PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&password.chars().count())
}

/// Too many logins wait already. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

type Job = Box<dyn FnOnce() + Send>;

/// Hands work to the password threads.
#[derive(Clone)]
pub struct Passwords {
    queue: SyncSender<Job>,
    /// Of a password that nobody has.
    nobodys: Arc<str>,
    attempts: Arc<Attempts>,
}

/// A guess at an account's password, which counts as a failure unless it is right.
pub struct Guess {
    passwords: Passwords,
    attempt: Attempt,
    looked_at: bool,
}

impl Passwords {
    /// Starts the threads.
    pub fn start(thread_count: usize) -> std::io::Result<Passwords> {
        let (queue, jobs) = sync_channel::<Job>(QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for index in 0..thread_count {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new().name(format!("password-{index}")).spawn(move || work(&jobs))?;
        }
        let secret: String = random::bytes::<16>().map(|byte| format!("{byte:02x}")).concat();
        let attempts = Arc::new(Attempts::new(thread_count));
        Ok(Passwords { queue, nobodys: Arc::from(hash_now(&secret)), attempts })
    }

    /// The hash to be kept, in PHC string format.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], and nothing was done.
    pub async fn hash(&self, password: String) -> Result<Box<str>, QueueFull> {
        self.run(move || hash_now(&password)).await
    }

    /// To be called before anything that depends on whether the account exists.
    ///
    /// # Errors
    ///
    /// When the account's password was guessed at too often.
    pub fn guess(&self, account: &str, address: IpAddr) -> Result<Guess, TooManyAttempts> {
        let attempt = self.attempts.begin(account, address)?;
        Ok(Guess { passwords: self.clone(), attempt, looked_at: false })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, QueueFull> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Whoever asked may have gone.
            let _ = sender.send(work());
        });
        match self.queue.try_send(job) {
            Ok(()) => Ok(receiver.await.expect("a password thread answers or ends the process")),
            Err(TrySendError::Full(_)) => Err(QueueFull),
            Err(TrySendError::Disconnected(_)) => unreachable!("the password threads never end"),
        }
    }
}

impl Guess {
    /// Whether the password is the one of the hash. Without a hash it does the very same work
    /// to say no, so that the time does not tell whether an account exists.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], and nothing was done.
    pub async fn check(mut self, password: String, hash: Option<Box<str>>) -> Result<bool, QueueFull> {
        let nobodys = Arc::clone(&self.passwords.nobodys);
        // One that is too long for any account is not hashed at length.
        let fits = password.chars().count() <= PASSWORD_CHARS_MAX;
        let (password, hash) = if fits { (password, hash) } else { (String::new(), None) };
        let work = move || {
            let right = verify_now(&password, hash.as_deref().unwrap_or(&nobodys));
            right && hash.is_some()
        };
        // Whoever does not wait for the answer has guessed all the same.
        self.looked_at = true;
        let result = self.passwords.run(work).await;
        match result {
            Ok(true) => self.passwords.attempts.succeeded(&self.attempt),
            Ok(false) => {}
            Err(QueueFull) => self.looked_at = false,
        }
        result
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        if !self.looked_at {
            self.passwords.attempts.withdrawn(&self.attempt);
        }
    }
}

/// With OWASP's parameters, which are argon2's default here: 19 MiB, t=2, p=1.
///
/// # Panics
///
/// Without random bytes from the kernel, or memory for the hash.
pub(crate) fn hash_now(password: &str) -> Box<str> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.expect("argon2 hashes any password of this length").to_string().into()
}

fn verify_now(password: &str, hash: &str) -> bool {
    let hash = PasswordHash::new(hash).expect("a recorded hash is in PHC format");
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    lower_priority();
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        job();
    }
}

/// A login can wait for a sale, and a flood of logins has to.
fn lower_priority() {
    // On Linux this is the calling thread's own niceness.
    if let Err(error) = rustix::process::nice(10) {
        tracing::warn!(%error, "password threads run at normal priority");
    }
}

//! The timers of a core on [`super::on_epoll`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Instant;

/// Tasks that sleep, in the order of their times.
#[derive(Default)]
pub(super) struct Timers {
    /// The number tells sleepers with the same time apart.
    sleepers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    number: Cell<u64>,
}

impl Timers {
    /// Sleeps until [`Timers::fire`] is called with this time or a later one.
    pub(super) async fn sleep_until(&self, until: Instant) {
        let number = self.number.get();
        self.number.set(number + 1);
        let sleeper = Sleeper { timers: self, key: (until, number) };
        let mut is_waiting = false;
        poll_fn(|context| {
            let mut sleepers = self.sleepers.borrow_mut();
            if is_waiting && !sleepers.contains_key(&sleeper.key) {
                return Poll::Ready(());
            }
            is_waiting = true;
            sleepers.insert(sleeper.key, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Wakes those whose time has come.
    pub(super) fn fire(&self, now: Instant) {
        let mut sleepers = self.sleepers.borrow_mut();
        while let Some(first) = sleepers.first_entry()
            && first.key().0 <= now
        {
            first.remove().wake();
        }
    }

    /// The next time at which somebody wakes.
    pub(super) fn next(&self) -> Option<Instant> {
        self.sleepers.borrow().first_key_value().map(|(&(until, _), _)| until)
    }
}

/// Removed from the timers on drop.
struct Sleeper<'a> {
    timers: &'a Timers,
    key: (Instant, u64),
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        // There is none if it was woken.
        self.timers.sleepers.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn sleepers_wake_at_their_time_and_no_other() {
        let (timers, woken) = (Timers::default(), Arc::new(Woken::default()));
        let (waker, count) = (Waker::from(Arc::clone(&woken)), || woken.0.load(Ordering::Relaxed));
        let mut context = Context::from_waker(&waker);
        let now = Instant::now();
        let soon = now + Duration::from_secs(1);
        let mut first = pin!(timers.sleep_until(soon));
        let mut second = pin!(timers.sleep_until(soon));
        let mut late = pin!(timers.sleep_until(soon + Duration::from_secs(1)));
        assert_eq!(timers.next(), None, "nobody has begun to sleep");
        assert!(late.as_mut().poll(&mut context).is_pending());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert_eq!(timers.next(), Some(soon));
        timers.fire(now);
        assert_eq!(count(), 0);
        assert!(first.as_mut().poll(&mut context).is_pending(), "it is polled for another reason");
        timers.fire(soon);
        assert_eq!(count(), 2);
        assert!(first.as_mut().poll(&mut context).is_ready());
        assert!(second.as_mut().poll(&mut context).is_ready());
        assert!(late.as_mut().poll(&mut context).is_pending());
        timers.fire(soon + Duration::from_secs(3));
        assert_eq!(count(), 3);
        assert!(late.as_mut().poll(&mut context).is_ready());
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_sleep_that_is_given_up_leaves_nothing() {
        let timers = Timers::default();
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut sleep = pin!(timers.sleep_until(Instant::now()));
            assert!(sleep.as_mut().poll(&mut context).is_pending());
            assert!(timers.next().is_some());
        }
        assert_eq!(timers.next(), None);
    }
}

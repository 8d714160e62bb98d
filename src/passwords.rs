//! Passwords: argon2id on threads of their own, so that the cores do not block.

mod attempts;
pub(crate) mod rules;

use std::net::IpAddr;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};

use crate::logging::rationed;
use crate::random;
use crate::rt::workers::{Priority, Workers};

pub(crate) use crate::rt::workers::QueueFull;
pub(crate) use attempts::TooManyAttempts;
use attempts::{Attempt, Attempts};

/// Passwords that wait for a thread. One takes some 15 ms, so the last of them waits a second.
const QUEUE_MAX: usize = 64;

/// Password lengths in characters, as NIST SP 800-63B counts and JSON Schema does: its
/// least for a password that stands alone, and a bound for what is hashed.
pub(crate) const PASSWORD_CHARS_MIN: usize = 8;
pub(crate) const PASSWORD_CHARS_MAX: usize = 128;

/// Whether a new password has the length that one has to have.
pub(crate) fn has_good_length(password: &str) -> bool {
    (PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&password.chars().count())
}

/// The password threads and the limits on guesses, for all cores together.
#[derive(Clone)]
pub struct Passwords {
    /// Of low priority: a login can wait for a sale, and a flood of logins has to.
    workers: Workers,
    /// The hash of a random password, checked in place of the hash of an account that does not exist.
    decoy: Arc<str>,
    attempts: Arc<Attempts>,
}

/// A guess at an account's password, which counts as a failure unless it is right.
pub struct Guess {
    passwords: Passwords,
    attempt: Attempt,
    /// Whether the password is or was compared: else dropping this withdraws the attempt.
    is_checked: bool,
}

impl Passwords {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// When one cannot be started.
    pub fn start(thread_count: usize) -> std::io::Result<Passwords> {
        let names = (0..thread_count).map(|index| format!("password-{index}"));
        let workers = Workers::start(names, QUEUE_MAX, Priority::Low)?;
        let secret: String = random::bytes::<16>().map(|byte| format!("{byte:02x}")).concat();
        let attempts = Arc::new(Attempts::new(thread_count));
        Ok(Passwords { workers, decoy: Arc::from(hash_now(&secret)), attempts })
    }

    /// Hashes a password for an account's record, in PHC string format.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], and nothing was done.
    pub async fn hash(&self, password: String) -> Result<Box<str>, QueueFull> {
        Ok(self.workers.run(move || hash_now(&password))?.await)
    }

    /// Counts a guess. Called before anything that depends on whether the account exists.
    ///
    /// # Errors
    ///
    /// When there were too many guesses at the account's password.
    pub fn guess(&self, account: &str, address: IpAddr) -> Result<Guess, TooManyAttempts> {
        let attempt = self.attempts.begin(account, address).inspect_err(|_| {
            rationed!(warn, %address, "a login was refused unseen: too many have failed");
        })?;
        Ok(Guess { passwords: self.clone(), attempt, is_checked: false })
    }
}

impl Guess {
    /// Compares the password with the hash. Without a hash it does the same work and returns false, so that
    /// the time does not tell whether an account exists.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], and nothing was done.
    pub async fn check(mut self, password: String, hash: Option<Box<str>>) -> Result<bool, QueueFull> {
        let decoy = Arc::clone(&self.passwords.decoy);
        // A password that is too long for any account is not hashed: that would take longer.
        let fits = password.chars().count() <= PASSWORD_CHARS_MAX;
        let (password, hash) = if fits { (password, hash) } else { (String::new(), None) };
        let work = move || {
            let right = verify_now(&password, hash.as_deref().unwrap_or(&decoy));
            right && hash.is_some()
        };
        let right = self.passwords.workers.run(work)?;
        // From here on the guess counts, even if the client does not wait for the answer.
        self.is_checked = true;
        let right = right.await;
        if right {
            self.passwords.attempts.succeeded(&self.attempt);
        }
        Ok(right)
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        if !self.is_checked {
            self.passwords.attempts.withdrawn(&self.attempt);
        }
    }
}

/// Hashes with OWASP's parameters, which are argon2's default here: 19 MiB, t=2, p=1.
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

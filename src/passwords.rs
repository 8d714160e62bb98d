//! Passwords: argon2id on threads of their own, so that the cores do not block.

mod attempts;
mod registrations;
pub(crate) mod rules;

use std::net::IpAddr;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};

use crate::client_network::ClientNetwork;
use crate::logging::rationed;
use crate::random;
use crate::rt::workers::{Priority, QueueFull, Workers};
use attempts::Attempts;
use registrations::Registrations;
use rules::NewPassword;

/// Passwords that wait for a thread. One takes some 15 ms, so the last of them waits a second. If they are all of
/// one address, the first of another address waits for one of them at most.
const QUEUE_MAX: usize = 64;

/// The capacity of each table of counts, for each password thread. At 13 ms a guess, a thread needs 35 minutes to
/// fill a table with entries of five failures.
const ENTRIES_PER_THREAD: usize = 32 * 1024;

/// Registrations an hour from one address, unless an option says otherwise: one a second, with all of an hour at once.
/// That is more than comes from a network that shares an address, such as that of a university, and tells one name a
/// second.
pub(crate) const REGISTRATIONS_PER_HOUR_DEFAULT: u32 = 3600;

/// The most that an option can say: more than four password threads hash.
pub(crate) const REGISTRATIONS_PER_HOUR_MAX: u32 = 1_000_000;

/// Why a password was not looked at. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// All places are taken, or other addresses have a better claim to one.
    QueueFull,
    TooManyAttempts(TooManyAttempts),
    TooManyRegistrations(TooManyRegistrations),
}

/// There were too many wrong guesses at the account's password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyAttempts {
    pub retry_after_seconds: u32,
}

/// There were too many registrations from the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyRegistrations {
    pub retry_after_seconds: u32,
}

/// The password threads and the limits on guesses and registrations, for all cores together.
#[derive(Clone)]
pub struct Passwords {
    /// Of low priority: a login can wait for a sale, and a flood of logins has to. Addresses take turns.
    workers: Workers<ClientNetwork>,
    /// The hash of a random password, checked in place of the hash of an account that does not exist.
    decoy: Arc<str>,
    attempts: Arc<Attempts>,
    registrations: Arc<Registrations>,
}

impl Passwords {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// When one cannot be started.
    pub fn start(thread_count: usize, registrations_per_hour: u32) -> std::io::Result<Passwords> {
        let names = (0..thread_count).map(|index| format!("password-{index}"));
        let workers = Workers::start(names, QUEUE_MAX, Priority::Low)?;
        let secret: String = random::bytes::<16>().map(|byte| format!("{byte:02x}")).concat();
        Ok(Passwords {
            workers,
            decoy: hash_now(&secret).into(),
            attempts: Arc::new(Attempts::new(thread_count)),
            registrations: Arc::new(Registrations::new(registrations_per_hour, thread_count)),
        })
    }

    /// Hashes a password for an account's record, in PHC string format.
    ///
    /// # Errors
    ///
    /// [`Refused::QueueFull`].
    pub async fn hash(&self, client: IpAddr, password: NewPassword) -> Result<Box<str>, Refused> {
        Ok(self.workers.run(client.into(), move || hash_now(password.as_str())).await?)
    }

    /// Hashes the password of an account to be, and counts the registration.
    ///
    /// # Errors
    ///
    /// When no place is left, or there were too many registrations from the address.
    pub async fn hash_to_register(&self, client: IpAddr, password: NewPassword) -> Result<Box<str>, Refused> {
        let network = ClientNetwork::from(client);
        self.registrations.take(network).map_err(|refused| {
            rationed!(warn, address = %client, "a registration was refused: too many from this address");
            Refused::TooManyRegistrations(refused)
        })?;
        let hash = self.hash(client, password).await;
        if hash.is_err() {
            self.registrations.give_back(network);
        }
        hash
    }

    /// Compares a password with the hash of an account, which need not exist: without a hash it does the same work
    /// and returns false, so that the time does not tell whether an account exists. Counts wrong passwords.
    ///
    /// # Errors
    ///
    /// When no place is left, or there were too many wrong guesses at the account's password.
    pub async fn guess(
        &self,
        account: &str,
        client: IpAddr,
        password: String,
        hash: Option<Box<str>>,
    ) -> Result<bool, Refused> {
        let network = ClientNetwork::from(client);
        let guesser = self.attempts.guesser(account, network);
        // Refused without a place in the queue. The guesses before it may be wrong, so the thread asks again.
        let refused = |refused| {
            rationed!(warn, address = %client, "a login was refused unseen: too many have failed");
            Refused::TooManyAttempts(refused)
        };
        self.attempts.check(guesser).map_err(refused)?;
        let (attempts, decoy) = (Arc::clone(&self.attempts), Arc::clone(&self.decoy));
        let work = move || {
            let attempt = attempts.begin(guesser)?;
            let right = is_right(&password, hash.as_deref().unwrap_or(&decoy)) && hash.is_some();
            attempts.end(attempt, right);
            Ok(right)
        };
        // A guess that has begun counts, even if the client does not wait for the answer.
        self.workers.run(network, work).await?.map_err(refused)
    }
}

impl From<QueueFull> for Refused {
    fn from(QueueFull: QueueFull) -> Refused {
        Refused::QueueFull
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

/// Compares a password with a hash in each form that it may have been hashed in.
fn is_right(password: &str, hash: &str) -> bool {
    let hash = PasswordHash::new(hash).expect("a recorded hash is in PHC format");
    let forms = rules::forms(password);
    forms.iter().any(|form| Argon2::default().verify_password(form.as_bytes(), &hash).is_ok())
}

//! Passwords: argon2id with boxoffice's parameters, the defaults of the crate (19 MiB, t=2, p=1), on
//! tokio's blocking threads, with at most one concurrent hash per worker.

use std::sync::{Arc, LazyLock};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

pub(crate) struct Passwords {
    places: Arc<Semaphore>,
}

/// The hash against which passwords of missing accounts are checked, so that this takes the same time.
static DUMMY_HASH: LazyLock<String> = LazyLock::new(|| hash_now(&crate::random_id()));

impl Passwords {
    pub(crate) fn new(threads: usize) -> Passwords {
        Passwords { places: Arc::new(Semaphore::new(threads)) }
    }

    /// Hashes a password, in PHC string format.
    pub(crate) async fn hash(&self, password: String) -> String {
        self.run(move || hash_now(&password)).await
    }

    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> bool {
        self.run(move || {
            let hash = hash.as_deref();
            let right = verify_now(&password, hash.unwrap_or(&DUMMY_HASH));
            right && hash.is_some()
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        tokio::task::spawn_blocking(work).await.expect("hashing does not panic")
    }
}

fn hash_now(password: &str) -> String {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.expect("argon2 hashes any password of this length").to_string()
}

fn verify_now(password: &str, hash: &str) -> bool {
    let hash = PasswordHash::new(hash).expect("a recorded hash is in PHC format");
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

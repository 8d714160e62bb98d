//! Who may register, as whoever runs the server decides.

use shards::ids::Role;

/// Who may make an account for oneself. An admin makes accounts of every role at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Registration {
    /// Customers and organizers
    Open,
    /// Customers; organizers are made by an admin
    Customers,
    /// Nobody; all accounts are made by an admin
    Closed,
}

impl Registration {
    /// Whether anyone may register with this role.
    pub(super) fn allows(self, role: Role) -> bool {
        match (self, role) {
            (_, Role::Admin) | (Registration::Closed, _) => false,
            (Registration::Open, Role::Customer | Role::Organizer) => true,
            (Registration::Customers, role) => role == Role::Customer,
        }
    }
}

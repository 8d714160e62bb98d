//! Tests of the rules, and of the independence of slots.

mod holds;
mod slots;
mod table;

use super::ShardState;
use crate::command::Actor;
use crate::ids::{Role, UserId};
use crate::slots::SlotSet;

/// Customers 1 (a) and 2 (b), also as organizers, organizers 8 (o) and 9 (p), admin 99 (z).
fn actor(name: &str) -> Actor {
    let (user, role) = match name {
        "a" => (1, Role::Customer),
        "b" => (2, Role::Customer),
        "o" => (8, Role::Organizer),
        "p" => (9, Role::Organizer),
        "z" => (99, Role::Admin),
        "a-organizer" => (1, Role::Organizer),
        "b-organizer" => (2, Role::Organizer),
        other => panic!("unknown actor: {other}"),
    };
    Actor::new(UserId(user), role)
}

fn all_slots() -> ShardState {
    ShardState::owning(SlotSet::all())
}

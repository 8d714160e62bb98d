//! The messages between cores. There are two classes, with a type for each.

use shards::command::{Ask, Command};
use shards::ids::UserId;
use shards::outcome::Reply;

#[derive(Debug)]
pub(super) enum Message {
    Request(ShardRequest),
    Finishing(Finishing),
}

/// A question for a shard.
#[derive(Debug)]
pub struct ShardRequest {
    pub ask: Ask,
    /// The place that was reserved for its reply. `None` for a command that another slot's command
    /// led to: it is never refused and gets no reply.
    pub reply_to: Asker,
}

const _: () = assert!(size_of::<ShardRequest>() <= 128, "requests are moved about by value");

/// The place that a shard's answer is sent to; `None` if no caller waits for it.
pub(crate) type Asker = Option<ReplyTo>;

/// The place that a request reserved for its reply.
#[derive(Debug, Clone, Copy)]
pub struct ReplyTo {
    pub(super) core: u16,
    pub(super) place: u32,
}

/// A message that completes what a request began. It is sent on behalf of a request that still
/// has its place, and each request leads to a bounded number of them. So it needs no place of its
/// own and is never refused.
#[derive(Debug)]
pub(super) enum Finishing {
    Reply {
        place: u32,
        reply: Reply,
    },
    /// For the owner of its slot.
    Command(Command),
    Notice(Notice),
}

/// A finishing message of another protocol that uses this transport. The transport does not
/// interpret it, and passes it to the callback of [`super::Mesh::take_in`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The account's tokens have ended: the receiving core has to forget them.
    ForgetTokens { user: UserId, revocation: u32 },
    /// The sending core has forgotten the tokens of that revocation.
    TokensForgotten { revocation: u32 },
}

//! What travels between cores: two classes of messages, told apart by their types.

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
    /// The place that was taken for its reply before it was sent; `None` for a command that another
    /// slot's command led to, which is never refused and gets no reply.
    pub reply_to: Asker,
}

const _: () = assert!(size_of::<ShardRequest>() <= 128, "requests are moved about by value");

/// Where a shard's answer goes; `None`: nobody waits for it.
pub(crate) type Asker = Option<ReplyTo>;

/// The place that a request took for its reply.
#[derive(Debug, Clone, Copy)]
pub struct ReplyTo {
    pub(super) core: u16,
    pub(super) place: u32,
}

/// A message that completes what a request began. It is sent on behalf of a request whose place
/// is still taken, and only a bounded number of times for each, so it needs no place of its own
/// and is never refused.
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

/// A finishing message of a protocol that uses this transport. The transport carries it and
/// hands it over, see [`super::Mesh::take_in`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The account's tokens have ended: the receiving core has to forget them.
    ForgetTokens { user: UserId, revocation: u32 },
    /// The sending core has forgotten the tokens of that revocation.
    TokensForgotten { revocation: u32 },
}

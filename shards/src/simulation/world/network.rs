//! What is between clients and cores: questions on their way, and answers.

use super::World;
use crate::command::Ask;
use crate::outcome::Reply;
use crate::simulation::coverage::name_of;
use crate::simulation::oracle::{Exchange, Known, Violation};
use crate::simulation::plant::Plant;
use crate::simulation::workload::random_ask;
use crate::slots::shard_of_slot;

/// On its way: between a client and a core, or between cores.
pub(super) enum Message {
    Request(usize),
    Reply { question: usize, reply: Reply, known: Vec<Known> },
}

pub(super) struct Question {
    pub(super) ask: Ask,
    pub(super) shard_index: usize,
    pub(super) asked: u64,
    /// Of the process that was asked.
    pub(super) life: u64,
    pub(super) answer: Option<Reply>,
}

impl World {
    pub(super) fn ask(&mut self) {
        let ask = random_ask(&mut self.random, &mut self.ids);
        let shard_index = match ask.slot() {
            Some(slot) => self.owner(slot),
            // One part of what the API asks of all.
            None => self.random.within(0, self.shards.len() as u64 - 1) as usize,
        };
        let question = self.questions.len();
        self.note(|| format!("question {question} to shard {shard_index}: {ask:?}"));
        self.oracle.request_sent(&ask);
        let life = self.disk.last_epoch().0;
        self.questions.push(Question { ask, shard_index, asked: self.now, life, answer: None });
        self.wire.push(Message::Request(question));
    }

    pub(super) fn deliver(&mut self, index: usize) {
        match self.wire.swap_remove(index) {
            Message::Request(question) => {
                let shard_index = self.questions[question].shard_index;
                self.note(|| format!("question {question} arrives"));
                self.shards[shard_index].inbox.push_back(question);
                if self.plant == Some(Plant::DeliverTwice) && self.has_chance(100) {
                    self.shards[shard_index].inbox.push_back(question);
                }
            }
            Message::Reply { question, reply, known } => {
                self.note(|| format!("the answer to {question} arrives"));
                self.count(name_of(&reply));
                if self.questions[question].life != self.disk.last_epoch().0 {
                    self.count("answers of a killed process");
                }
                self.oracle.reply_arrived(self.now, known);
                self.questions[question].answer = Some(reply);
            }
        }
    }

    /// From here on a client may come to know it.
    pub(super) fn send(&mut self, question: usize, reply: Reply) -> Result<(), Violation> {
        self.note(|| format!("answer to {question}: {reply:?}"));
        let Question { ref ask, asked, shard_index, .. } = self.questions[question];
        let shard_count = self.shards.len();
        let owns = |slot| shard_of_slot(slot, shard_count) == shard_index;
        let known = self.oracle.check(Exchange { sent: asked, ask, reply: &reply }, owns)?;
        self.wire.push(Message::Reply { question, reply, known });
        Ok(())
    }
}

//! What one core knows of the events that its clients follow.
//!
//! A core asks an event's owner once an event, however many follow it: a question that waits for news ([`Query::Watch`]),
//! and is asked again after each answer and after any failure. News is encoded once and shared. Between two questions
//! are [`PAUSE`] and the time that telling the news took: changes meanwhile are one message.
//!
//! [`Query::Watch`]: shards::command::Query::Watch

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shards::ids::{EventId, Lsn};
use shards::outcome::{Availability, Rejection};
use slab::Slab;

use crate::client::{Refused, Shards};
use crate::rt;

/// The shortest time between two messages about an event.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a question waits for news, and so the time after which those who follow a quiet event hear that the server
/// is there.
const WAIT: Duration = Duration::from_secs(15);

/// The followers that are told before other tasks have a turn. A sale needs several turns: with 64, p99 of sales
/// beside ten thousand followers was three times as high and more, and telling all was no faster (benches/README.md).
const SLICE: usize = 8;

/// The most events that streams of one core follow, counted for each stream: some 10 MiB.
const FOLLOWERS_MAX: usize = 200_000;

/// The events that are followed on one core.
pub(crate) struct Hub {
    shards: Shards,
    as_json: fn(Availability) -> Vec<u8>,
    topics: RefCell<BTreeMap<EventId, Rc<Topic>>>,
    followers: Cell<usize>,
    /// Whether no more questions are asked.
    is_closed: Cell<bool>,
}

/// An event that is followed.
struct Topic {
    event: EventId,
    news: RefCell<Rc<News>>,
    /// The number of times that a question found nothing new.
    beats: Cell<u64>,
    /// The wakers of those who wait.
    followers: RefCell<Slab<Option<Waker>>>,
}

/// What there is to tell of an event.
pub(in crate::front) struct News {
    /// `None` if the event is deleted.
    pub(in crate::front) position: Option<Lsn>,
    /// Lines of an event stream, without its id and the empty line at the end.
    pub(in crate::front) lines: Box<[u8]>,
}

impl News {
    pub(in crate::front) fn deleted(event: EventId) -> News {
        let lines = format!("event: deleted\ndata: {{\"event\":{event}}}\n");
        News { position: None, lines: lines.into_bytes().into() }
    }
}

impl Hub {
    /// `as_json` writes the data of messages.
    pub(crate) fn new(shards: Shards, as_json: fn(Availability) -> Vec<u8>) -> Rc<Hub> {
        let (topics, followers) = (RefCell::default(), Cell::new(0));
        Rc::new(Hub { shards, as_json, topics, followers, is_closed: Cell::new(false) })
    }

    fn news(&self, view: Availability) -> Rc<News> {
        let lines = [b"data: ", &*(self.as_json)(view), b"\n"].concat();
        Rc::new(News { position: Some(view.position), lines: lines.into() })
    }

    /// Asks no more questions, and lets none wait at this core's shard: the server drains.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
        self.shards.close_watches();
    }

    /// Follows an event from what `view` says on, which is newer than all that was answered before.
    ///
    /// # Errors
    ///
    /// [`Refused::Overloaded`], when as many follow as may.
    pub(in crate::front) fn follow(self: &Rc<Self>, view: Availability) -> Result<Follower, Refused> {
        if self.followers.get() == FOLLOWERS_MAX {
            return Err(Refused::Overloaded);
        }
        let known = self.topics.borrow().get(&view.event).map(Rc::clone);
        let topic = known.clone().unwrap_or_else(|| Rc::new(Topic::new(view.event, self.news(view))));
        if known.is_some() {
            // The next message may wait for its pause. Nobody begins with an older state than the event has.
            topic.learn(self.news(view));
        }
        self.followers.update(|followers| followers + 1);
        let key = topic.followers.borrow_mut().insert(None);
        if known.is_none() {
            self.topics.borrow_mut().insert(view.event, Rc::clone(&topic));
            // It may have its first turn at once.
            rt::spawn(Rc::clone(self).ask_on(Rc::clone(&topic), view.position));
        }
        Ok(Follower { hub: Rc::clone(self), beats: topic.beats.get(), topic, key })
    }

    /// Asks for news of an event as long as somebody follows it.
    async fn ask_on(self: Rc<Self>, topic: Rc<Topic>, mut known: Lsn) {
        loop {
            if self.is_closed.get() || topic.followers.borrow().is_empty() {
                break;
            }
            match self.shards.watch(topic.event, known, WAIT).await {
                Ok(view) if view.position == known => topic.beats.update(|beats| beats + 1),
                Ok(view) => {
                    known = view.position;
                    topic.learn(self.news(view));
                }
                Err(Refused::Rejected(Rejection::EventDeleted | Rejection::EventNotFound)) => {
                    *topic.news.borrow_mut() = Rc::new(News::deleted(topic.event));
                    break;
                }
                // It is asked again.
                Err(Refused::Rejected(_) | Refused::Overloaded | Refused::Unreadable) => {}
            }
            topic.tell().await;
            rt::sleep(PAUSE).await;
        }
        self.topics.borrow_mut().remove(&topic.event);
        topic.tell().await;
    }
}

impl Topic {
    fn new(event: EventId, news: Rc<News>) -> Topic {
        let (beats, followers) = (Cell::new(0), RefCell::default());
        Topic { event, news: RefCell::new(news), beats, followers }
    }

    /// Takes the tickets for what is known, if they are newer.
    fn learn(&self, news: Rc<News>) {
        let mut known = self.news.borrow_mut();
        if known.position < news.position {
            *known = news;
        }
    }

    /// Wakes those who wait, some at a time.
    async fn tell(&self) {
        let (mut key, mut woken) = (0, 0);
        loop {
            let waker = {
                let mut followers = self.followers.borrow_mut();
                if key >= followers.capacity() {
                    break;
                }
                followers.get_mut(key).and_then(Option::take)
            };
            key += 1;
            if let Some(waker) = waker {
                waker.wake();
                woken += 1;
                if woken % SLICE == 0 {
                    rt::yield_now().await;
                }
            }
        }
    }
}

/// One who follows an event.
pub(in crate::front) struct Follower {
    hub: Rc<Hub>,
    topic: Rc<Topic>,
    key: usize,
    beats: u64,
}

/// What a follower hears.
pub(in crate::front) enum Heard {
    News(Rc<News>),
    /// There is nothing new for a while.
    Beat,
}

impl Follower {
    pub(in crate::front) fn event(&self) -> EventId {
        self.topic.event
    }

    /// What there is to tell to one who knows the event up to `seen`.
    pub(in crate::front) fn poll_news(&mut self, seen: Lsn, context: &Context<'_>) -> Poll<Heard> {
        let news = self.topic.news.borrow();
        if news.position.is_none_or(|position| position > seen) {
            return Poll::Ready(Heard::News(Rc::clone(&news)));
        }
        if std::mem::replace(&mut self.beats, self.topic.beats.get()) != self.beats {
            return Poll::Ready(Heard::Beat);
        }
        self.topic.followers.borrow_mut()[self.key] = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.topic.followers.borrow_mut().remove(self.key);
        self.hub.followers.update(|followers| followers - 1);
    }
}

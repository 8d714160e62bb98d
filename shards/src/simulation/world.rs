//! The server, its clients and its disks, one step after the other: whatever
//! could happen next is drawn from the seed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::disk::{Damage, Disk, Replayed};
use super::failure;
use super::oracle::{Known, Oracle, Violation, kind_of};
use super::plant::Plant;
use super::random::Random;
use super::workload::{Ids, random_ask};
use crate::clock::{Clock, Now};
use crate::command::{Ask, Command, Query};
use crate::driver::{Driver, Gather, LogDone, Notice, Pace, Step};
use crate::ids::{Slot, Timestamp};
use crate::log::{self, AppendError, Upkeep};
use crate::outcome::{Outcome, Rejection, Reply, ReservationStatus, Totals};
use crate::record::Entry;
use crate::shard::{Batch, Release, Shard};
use crate::slots::{shard_of_slot, slot_of_event};
use crate::state::ShardState;

const SHARDS_MAX: u64 = 5;
const STEPS: [u64; 2] = [100, 500];
/// Requests that a shard takes in at once.
const TAKE_IN_MAX: u64 = 6;
/// Steps of a driver in one turn of its core.
const DRIVER_STEPS_MAX: u64 = 20;
/// Rounds in which everything has to come to rest when nothing else happens.
const ROUNDS_TO_REST: usize = 2000;
const HOUR_MS: u64 = 3_600_000;
/// 2023-11-14.
const START_MS: u64 = 1_700_000_000_000;

pub(super) struct World {
    random: Random,
    plant: Option<Plant>,
    nature: Nature,
    now: u64,
    /// Since the process started.
    elapsed: Duration,
    wall: Timestamp,
    disk: Disk,
    /// Empty while the server is down.
    shards: Vec<SimulatedShard>,
    wire: Vec<Message>,
    questions: Vec<Question>,
    ids: Ids,
    oracle: Oracle,
    /// What a killed process was writing, for [`Plant::OldEpochWrites`].
    late: Vec<(usize, Vec<Entry>)>,
    /// How often what happened, by name.
    pub(super) seen: BTreeMap<&'static str, u64>,
    /// Every step in words, if they are wanted.
    pub(super) steps: Option<Vec<String>>,
}

/// How bad it is in this world: chances in 1000, of each step or each commit.
struct Nature {
    crash: u64,
    clock_jump: u64,
    fills: u64,
    fails: u64,
    lies: u64,
    /// Turns that a commit takes at most.
    slowness: u64,
    /// The most records of a commit.
    batch_max: usize,
}

struct SimulatedShard {
    driver: Driver<usize>,
    clock: Clock,
    inbox: VecDeque<usize>,
    /// What the log does on another thread, and the turns until it is done.
    log_work: Option<(LogWork, u64)>,
    /// There is no room on its disk.
    is_full: bool,
    /// Commits since the journal was written back.
    commits: u64,
}

enum LogWork {
    Append(Batch),
    Maintain,
    Probe,
}

enum Appended {
    Durable,
    RolledBack,
    Unknown,
}

/// On its way: between a client and a core, or between cores.
enum Message {
    Request(usize),
    Reply { question: usize, reply: Reply, known: Vec<Known> },
}

struct Question {
    ask: Ask,
    shard_index: usize,
    asked: u64,
    /// Of the process that was asked.
    life: u64,
    answer: Option<Reply>,
}

/// Whether a world goes on.
#[derive(PartialEq, Eq)]
enum Then {
    Goes,
    /// The process has to end.
    Crashes,
    /// The server refuses to start, or what was lost cannot be known: nothing to be judged is left.
    Ends,
}

impl World {
    pub(super) fn new(seed: u64, plant: Option<Plant>, with_steps: bool) -> World {
        let mut random = Random::new(seed);
        let mut one_in = |chance: u64, most: u64| match random.within(1, chance) {
            1 => random.within(1, most),
            _ => 0,
        };
        let nature = Nature {
            crash: one_in(1, 25),
            clock_jump: one_in(2, 100),
            fills: one_in(3, 40),
            fails: one_in(2, 60),
            lies: one_in(12, 300),
            slowness: one_in(2, 8),
            batch_max: 1 + one_in(2, 20) as usize,
        };
        World {
            plant,
            nature,
            now: 0,
            elapsed: Duration::ZERO,
            wall: Timestamp(START_MS),
            disk: Disk::new(random.next()),
            shards: Vec::new(),
            wire: Vec::new(),
            questions: Vec::new(),
            ids: Ids::default(),
            oracle: Oracle::default(),
            late: Vec::new(),
            seen: BTreeMap::new(),
            steps: with_steps.then(Vec::new),
            random,
        }
    }

    /// # Errors
    ///
    /// The first thing that should not have been.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        if self.start(&Damage::None)? == Then::Ends {
            return Ok(());
        }
        for _ in 0..self.random.within(STEPS[0], STEPS[1]) {
            self.now += 1;
            let passed = self.random.within(0, 5);
            self.elapsed += Duration::from_millis(passed);
            self.wall.0 += passed;
            let then = match self.step()? {
                Then::Crashes => self.crash()?,
                then => then,
            };
            if then == Then::Ends {
                return Ok(());
            }
        }
        self.come_to_rest()?;
        for _ in 0..2 {
            if self.crash()? == Then::Ends {
                return Ok(());
            }
        }
        self.check_acknowledged()?;
        let damage = self.disk.edit(&mut self.random);
        self.note(|| format!("somebody edits the disk: {damage:?}"));
        self.start(&damage).map(drop)
    }

    fn step(&mut self) -> Result<Then, Violation> {
        if self.has_chance(self.nature.crash) {
            return Ok(Then::Crashes);
        }
        if self.has_chance(self.nature.clock_jump) {
            self.jump();
        }
        if self.has_chance(self.nature.fills) {
            let shard = self.any_shard();
            shard.is_full = !shard.is_full;
            let full = shard.is_full;
            self.note(|| format!("a disk has {} room", if full { "no" } else { "again" }));
        }
        match self.random.within(0, 99) {
            0..30 => self.ask(),
            30..65 if !self.wire.is_empty() => {
                let index = self.random.within(0, self.wire.len() as u64 - 1) as usize;
                self.deliver(index);
            }
            _ => {
                let index = self.random.within(0, self.shards.len() as u64 - 1) as usize;
                return self.turn(index);
            }
        }
        Ok(Then::Goes)
    }

    fn ask(&mut self) {
        let ask = random_ask(&mut self.random, &mut self.ids);
        let shard_index = match ask.slot() {
            Some(slot) => self.owner(slot),
            // One part of what the API asks of all.
            None => self.random.within(0, self.shards.len() as u64 - 1) as usize,
        };
        let question = self.questions.len();
        self.note(|| format!("question {question} to shard {shard_index}: {ask:?}"));
        self.oracle.asked(&ask);
        let life = self.disk.last_epoch().0;
        self.questions.push(Question { ask, shard_index, asked: self.now, life, answer: None });
        self.wire.push(Message::Request(question));
    }

    fn deliver(&mut self, index: usize) {
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
                self.oracle.arrived(self.now, known);
                self.questions[question].answer = Some(reply);
            }
        }
    }

    /// A turn of a core: some steps of its driver.
    fn turn(&mut self, index: usize) -> Result<Then, Violation> {
        if self.finish_log_work(index)? == Then::Crashes {
            return Ok(Then::Crashes);
        }
        // Other cores may have theirs between any two steps.
        for _ in 0..self.random.within(1, DRIVER_STEPS_MAX) {
            let requests_wait = !self.shards[index].inbox.is_empty();
            match self.shards[index].driver.step(|| self.elapsed, requests_wait) {
                Step::Answer(question, reply) => self.answer(index, question, reply)?,
                Step::Send(slot, command) => return Err(format!("a message to slot {slot}: {command:?}")),
                Step::TakeIn(most) => self.take_in(index, most)?,
                Step::Gather(gather) => self.gather(index, gather),
                Step::Append { batch, beside } => {
                    if self.commit(index, batch, beside)? == Then::Crashes {
                        return Ok(Then::Crashes);
                    }
                }
                Step::Maintain => self.start_log_work(index, LogWork::Maintain),
                Step::Probe => self.start_log_work(index, LogWork::Probe),
                Step::Yield => break,
                Step::Wait { until } => {
                    if let Some(until) = until
                        && self.random.within(0, 3) == 0
                    {
                        self.elapsed = self.elapsed.max(until);
                    }
                    break;
                }
                Step::Stop => return Err("a driver stopped that was not told to".to_owned()),
            }
        }
        Ok(Then::Goes)
    }

    fn take_in(&mut self, index: usize, most: usize) -> Result<(), Violation> {
        for _ in 0..self.random.within(0, TAKE_IN_MAX.min(most as u64)) {
            let Some(question) = self.shards[index].inbox.pop_front() else { break };
            let ask = self.questions[question].ask.clone();
            let SimulatedShard { driver, clock, .. } = &mut self.shards[index];
            let now = clock.read(self.elapsed, self.wall);
            let state = driver.shard().state();
            let at_once = match (&ask, self.plant) {
                (Ask::Query(query), Some(Plant::AnswerReadsAtOnce)) => Some(state.query(now, query)),
                (Ask::Command(command), Some(Plant::AnswerRejectionsAtOnce)) => {
                    state.decide(now, command.slot(), command.clone()).reply.err().map(Err)
                }
                _ => None,
            };
            match at_once {
                Some(reply) => self.send(question, reply)?,
                None => driver.take_in(now, ask, question),
            }
        }
        Ok(())
    }

    /// Clients have a moment to ask for more.
    fn gather(&mut self, index: usize, gather: Gather) {
        self.elapsed += Duration::from_micros(match gather {
            Gather::Once => self.random.within(0, 100),
            Gather::Until(_) => self.random.within(0, 1000),
        });
        let news = self.random.within(0, 1) == 1;
        if news && !self.wire.is_empty() {
            let message = self.random.within(0, self.wire.len() as u64 - 1) as usize;
            self.deliver(message);
        }
        self.shards[index].driver.gathered(news);
    }

    fn answer(&mut self, index: usize, question: usize, reply: Reply) -> Result<(), Violation> {
        if self.plant == Some(Plant::SwapAnswers)
            && self.has_chance(200)
            && let Some(Release::Answer(other, other_reply)) = self.shards[index].driver.next_release()
        {
            self.send(question, other_reply)?;
            return self.send(other, reply);
        }
        self.send(question, reply)
    }

    /// From here on a client may come to know it.
    fn send(&mut self, question: usize, reply: Reply) -> Result<(), Violation> {
        self.note(|| format!("answer to {question}: {reply:?}"));
        let Question { ref ask, asked, shard_index, .. } = self.questions[question];
        let shard_count = self.shards.len();
        let owns = |slot| shard_of_slot(slot, shard_count) == shard_index;
        let known = self.oracle.check(asked, ask, &reply, owns)?;
        self.wire.push(Message::Reply { question, reply, known });
        Ok(())
    }

    fn commit(&mut self, index: usize, batch: Batch, beside: bool) -> Result<Then, Violation> {
        self.note(|| format!("shard {index} commits {} records", batch.entries.len()));
        if self.plant == Some(Plant::MarkBeforeCommit) {
            self.disk.mark_ahead(index, &batch.entries);
        }
        if self.plant == Some(Plant::AnswerBeforeCommit) {
            let entries = batch.entries.clone();
            self.log_is_done(
                index,
                LogDone::Append {
                    batch,
                    result: Ok(log::Appended::default()),
                    waited: Duration::ZERO,
                    maintenance_is_due: false,
                },
            )?;
            while let Some(Release::Answer(question, reply)) = self.shards[index].driver.next_release() {
                self.send(question, reply)?;
            }
            return self.keep(index, &entries, false).map(|()| Then::Goes);
        }
        // An owner may also commit on another thread what it could commit in place.
        if beside || self.random.within(0, 1) < self.nature.slowness {
            self.count("commits that take their time");
            self.start_log_work(index, LogWork::Append(batch));
            return Ok(Then::Goes);
        }
        self.append(index, batch)
    }

    fn start_log_work(&mut self, index: usize, work: LogWork) {
        let turns = self.random.within(0, self.nature.slowness);
        self.shards[index].log_work = Some((work, turns));
    }

    fn finish_log_work(&mut self, index: usize) -> Result<Then, Violation> {
        let work = match self.shards[index].log_work.take() {
            None => return Ok(Then::Goes),
            Some((work, turns @ 1..)) => {
                self.shards[index].log_work = Some((work, turns - 1));
                return Ok(Then::Goes);
            }
            Some((work, 0)) => work,
        };
        if !matches!(work, LogWork::Append(_)) && self.has_chance(self.nature.fails) {
            self.count("failed upkeep");
            self.note(|| format!("the log of shard {index} fails in its upkeep"));
            let done = match work {
                LogWork::Probe => LogDone::Probe(Err(AppendError::Unknown(failure()))),
                LogWork::Append(_) | LogWork::Maintain => LogDone::Maintain(Err(failure())),
            };
            return self.log_is_done(index, done);
        }
        match work {
            LogWork::Append(batch) => self.append(index, batch),
            LogWork::Maintain => {
                self.disk.sync_mark(index);
                self.log_is_done(index, LogDone::Maintain(Ok(Upkeep::default())))
            }
            LogWork::Probe if self.shards[index].is_full => {
                self.log_is_done(index, LogDone::Probe(Err(AppendError::RolledBack(failure()))))
            }
            LogWork::Probe => {
                self.count("logs with room again");
                self.note(|| format!("shard {index} has room again"));
                self.log_is_done(index, LogDone::Probe(Ok(())))
            }
        }
    }

    /// Tells the driver, which says whether the process goes on.
    fn log_is_done(&mut self, index: usize, done: LogDone) -> Result<Then, Violation> {
        match self.shards[index].driver.log_is_done(done) {
            Err(_) => Ok(Then::Crashes),
            Ok(Notice::LogIsFull(_)) => {
                self.count("full logs");
                self.note(|| format!("shard {index} has no room"));
                self.compare_with_disk(Some(index))?;
                Ok(Then::Goes)
            }
            Ok(Notice::Committed { .. }) => {
                self.count("commits");
                Ok(Then::Goes)
            }
            Ok(Notice::LogIsStillFull | Notice::LogHasRoom | Notice::Maintained(_)) => Ok(Then::Goes),
        }
    }

    /// The log's work, and what the driver makes of it.
    fn append(&mut self, index: usize, mut batch: Batch) -> Result<Then, Violation> {
        let mut appended = self.write(index, &batch)?;
        match (&appended, self.plant) {
            (Appended::RolledBack, Some(Plant::TakeFullForDone)) => appended = Appended::Durable,
            (Appended::RolledBack, Some(Plant::FullLogKeepsBatch)) => {
                self.keep(index, &batch.entries, false)?
            }
            (Appended::RolledBack, Some(Plant::KeepLastOfRolledBack)) => drop(batch.entries.pop()),
            (Appended::Unknown, Some(Plant::TakeUnknownForFull)) => {
                appended = Appended::RolledBack;
                if self.random.within(0, 1) == 1 {
                    self.keep(index, &batch.entries, false)?;
                }
            }
            _ => {}
        }
        let result = match appended {
            Appended::Durable => {
                self.shards[index].commits += 1;
                Ok(log::Appended::default())
            }
            Appended::RolledBack => Err(AppendError::RolledBack(failure())),
            Appended::Unknown => {
                // What became of it is drawn with the crash.
                self.shards[index].log_work = Some((LogWork::Append(batch), 0));
                return Ok(Then::Crashes);
            }
        };
        let maintenance_is_due = self.shards[index].commits >= 4;
        if maintenance_is_due {
            self.shards[index].commits = 0;
        }
        let waited = Duration::from_micros(self.random.within(0, 300 * (1 + self.nature.slowness)));
        self.log_is_done(index, LogDone::Append { batch, result, waited, maintenance_is_due })
    }

    fn write(&mut self, index: usize, batch: &Batch) -> Result<Appended, Violation> {
        if self.has_chance(self.nature.fails) {
            self.count("failed commits");
            self.note(|| format!("the log of shard {index} fails"));
            return Ok(Appended::Unknown);
        }
        // What is small may fit all the same.
        if self.shards[index].is_full && (batch.entries.len() > 1 || self.has_chance(800)) {
            return Ok(Appended::RolledBack);
        }
        if self.shards[index].is_full {
            self.count("commits while the disk is full");
        }
        let lie = self.has_chance(self.nature.lies);
        self.keep(index, &batch.entries, lie)?;
        self.disk.mark(index);
        Ok(Appended::Durable)
    }

    /// Puts a batch on disk, whole.
    fn keep(&mut self, index: usize, entries: &[Entry], lie: bool) -> Result<(), Violation> {
        self.disk.append(index, entries, lie);
        for entry in entries {
            self.count(kind_of(&entry.record).name());
            self.oracle.is_on_disk(entry)?;
        }
        let rows = self.disk.row_count(index);
        self.note(|| {
            format!("shard {index} has {rows} rows on disk{}", if lie { ", says a liar" } else { "" })
        });
        Ok(())
    }

    /// The process ends where it stands, and starts again.
    fn crash(&mut self) -> Result<Then, Violation> {
        self.count("crashes");
        self.note(|| "the process is killed".to_owned());
        let mut under_way = Vec::new();
        let mut ended = Vec::new();
        for (index, SimulatedShard { driver, log_work, .. }) in self.shards.drain(..).enumerate() {
            let mut shard = driver.into_shard();
            // The way back to what is certain is that of a full log.
            let batch = match log_work {
                Some((LogWork::Append(batch), _)) => {
                    under_way.push((index, batch.entries.clone()));
                    Some(batch)
                }
                Some((LogWork::Maintain | LogWork::Probe, _)) | None => shard.begin_commit(),
            };
            if let Some(batch) = batch {
                shard.roll_back(batch);
            }
            ended.push(shard);
        }
        let replayed = self.replay(ended.len())?;
        for (index, shard) in ended.iter().enumerate() {
            compare(index, shard.state(), &replayed.states[index])?;
        }
        for (index, entries) in under_way {
            match self.random.within(0, 2) {
                _ if self.plant == Some(Plant::OldEpochWrites) => self.late.push((index, entries)),
                0 => {
                    self.count("crashes in a commit: all of it is on disk");
                    self.keep(index, &entries, false)?;
                    if self.random.within(0, 1) == 1 {
                        self.disk.mark(index);
                    }
                }
                1 => self.count("crashes in a commit: nothing of it is"),
                // Cut off when the file is opened.
                _ => self.count("crashes in a commit: torn"),
            }
        }
        let random = &mut self.random;
        self.wire.retain(|message| matches!(message, Message::Reply { .. }) && random.within(0, 1) == 1);
        if self.random.within(0, 1) == 0 {
            return self.start(&Damage::None);
        }
        self.count("power cuts");
        self.note(|| "all of this machine is without power".to_owned());
        let damage = self.disk.lose_power(&mut self.random);
        self.start(&damage)
    }

    /// Recovers, checks what came of it, and goes on with it.
    fn start(&mut self, damage: &Damage) -> Result<Then, Violation> {
        let shard_count = self.random.within(1, SHARDS_MAX) as usize;
        self.note(|| format!("the server starts with {shard_count} shards on a disk with damage {damage:?}"));
        let replayed = self.disk.replay(shard_count, self.plant);
        if !damage.fits(&replayed) {
            let result = replayed.map(|_| "no complaint").map_err(|refusal| refusal.to_string());
            return Err(format!("a disk with damage {damage:?} was met with {result:?}"));
        }
        let (Ok(replayed), Damage::None) = (replayed, damage) else {
            self.count(match damage {
                Damage::None => unreachable!("nothing is wrong with it"),
                Damage::LostTail => "damage: lost tail",
                Damage::Lost(_) => "damage: lost",
                Damage::Checksum(..) => "damage: checksum",
                Damage::Rewritten(_) => "damage: rewritten",
                Damage::Refused => "damage: other",
            });
            return Ok(Then::Ends);
        };
        if self.has_chance(50) {
            self.count("starts cut off");
            return self.start(damage);
        }
        self.count("starts");
        if self.disk.last_shard_count().is_some_and(|before| before != shard_count) {
            self.count("starts with another shard count");
        }
        let last = self.disk.last_epoch();
        let epoch = self.disk.start_epoch(shard_count, &replayed);
        if epoch <= last {
            return Err(format!("epoch {epoch:?} follows {last:?}"));
        }
        if self.has_chance(50) {
            self.count("starts cut off");
            return self.start(damage);
        }
        let Replayed { states, mut heads, .. } = replayed;
        self.ids.event = states.iter().map(|state| state.highest_ids().0.0).max().unwrap_or(0);
        self.ids.user = states.iter().map(|state| state.highest_ids().1.0).max().unwrap_or(0);
        match self.plant {
            Some(Plant::ForgetIds) => self.ids = Ids::default(),
            Some(Plant::ForgetTimes) => heads.iter_mut().for_each(|head| head.at = Timestamp(0)),
            _ => {}
        }
        self.elapsed = Duration::ZERO;
        let shards = states.into_iter().map(|state| SimulatedShard {
            driver: Driver::new(Shard::new(state, &heads, epoch), self.nature.batch_max, Pace::USUAL),
            clock: Clock::new(self.wall),
            inbox: VecDeque::new(),
            log_work: None,
            is_full: false,
            commits: 0,
        });
        self.shards = shards.collect();
        for (index, entries) in std::mem::take(&mut self.late) {
            if index < shard_count {
                self.disk.append(index, &entries, false);
            }
        }
        self.check_shards()?;
        Ok(Then::Goes)
    }

    /// Shards that have nothing under way, against the oracle.
    fn check_shards(&self) -> Result<(), Violation> {
        let mut sum = Totals::default();
        for index in 0..self.shards.len() {
            let Ok(Outcome::Totals(part)) = self.query(index, &Query::Totals) else {
                return Err("totals are totals".to_owned());
            };
            sum.events += part.events;
            sum.accounts += part.accounts;
            sum.admins += part.admins;
            sum.quota += part.quota;
            sum.reserved += part.reserved;
        }
        self.oracle.check_all(|slot, query| self.query(self.owner(slot), query), sum)
    }

    fn query(&self, index: usize, query: &Query) -> Reply {
        self.shards[index].driver.shard().state().query(Now::at(self.wall), query)
    }

    fn replay(&mut self, shard_count: usize) -> Result<Replayed, Violation> {
        self.disk.replay(shard_count, None).map_err(|refusal| refusal.to_string())
    }

    /// Shards that have nothing under way, against what recovery makes of the disk; all, or one.
    fn compare_with_disk(&mut self, only: Option<usize>) -> Result<(), Violation> {
        let replayed = self.replay(self.shards.len())?;
        for (index, (shard, state)) in self.shards.iter().zip(&replayed.states).enumerate() {
            if only.is_none_or(|only| only == index) {
                compare(index, shard.driver.shard().state(), state)?;
            }
        }
        Ok(())
    }

    /// Nothing happens any more but what is under way: all of it has to be answered.
    fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.note(|| "nothing more is asked".to_owned());
        self.nature.fails = 0;
        self.shards.iter_mut().for_each(|shard| shard.is_full = false);
        for _ in 0..ROUNDS_TO_REST {
            self.now += 1;
            while !self.wire.is_empty() {
                self.deliver(0);
            }
            for index in 0..self.shards.len() {
                if self.turn(index)? != Then::Goes {
                    return Err("a process ended without a reason".to_owned());
                }
            }
            let at_rest = |shard: &SimulatedShard| {
                shard.driver.shard().is_at_rest() && shard.inbox.is_empty() && shard.log_work.is_none()
            };
            if self.wire.is_empty() && self.shards.iter().all(at_rest) {
                break;
            }
        }
        let life = self.disk.last_epoch().0;
        let mut questions = self.questions.iter().enumerate();
        if let Some((question, _)) = questions.find(|(_, one)| one.life == life && one.answer.is_none()) {
            return Err(format!("question {question} is never answered"));
        }
        self.check_shards()?;
        self.compare_with_disk(None)
    }

    /// What any client was told, against the shards, without the oracle's help.
    fn check_acknowledged(&self) -> Result<(), Violation> {
        for question in &self.questions {
            let (Ask::Command(command), Some(Ok(outcome))) = (&question.ask, &question.answer) else {
                continue;
            };
            let query = match (command, outcome) {
                (Command::Cancel { reservation, .. }, _) => (*reservation, None),
                (Command::Reserve { .. }, Outcome::Reservation(view)) => (view.id, Some(view)),
                _ => continue,
            };
            let (reservation, view) = query;
            let query = Query::Reservation { reservation, actor: super::workload::ADMIN };
            let shard = self.owner(slot_of_event(reservation.event));
            let reply = self.query(shard, &query);
            let is_right = match (&reply, view) {
                (Ok(Outcome::Reservation(now)), Some(view)) => {
                    (now.buyer, now.quantity) == (view.buyer, view.quantity)
                }
                (Ok(Outcome::Reservation(now)), None) => now.status == ReservationStatus::Cancelled,
                _ => false,
            };
            if !is_right {
                return Err(format!("{command:?} was acknowledged with {outcome:?}, and now is {reply:?}"));
            }
        }
        Ok(())
    }

    fn jump(&mut self) {
        let by = match self.random.within(0, 2) {
            0 => HOUR_MS,
            1 => 24 * 365 * 10 * HOUR_MS,
            _ => self.wall.0,
        };
        let forward = self.random.within(0, 1) == 0;
        self.wall = Timestamp(if forward { self.wall.0 + by } else { self.wall.0.saturating_sub(by) });
        // A clock that goes on doubling would end the world some day.
        self.wall.0 = self.wall.0.min(1 << 50);
        self.count("clock jumps");
        let clock = self.wall;
        self.note(|| format!("the clock says {clock:?}"));
    }

    fn owner(&self, slot: Slot) -> usize {
        shard_of_slot(slot, self.shards.len())
    }

    fn any_shard(&mut self) -> &mut SimulatedShard {
        let index = self.random.within(0, self.shards.len() as u64 - 1) as usize;
        &mut self.shards[index]
    }

    fn has_chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.random.within(1, 1000) <= per_mille
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn note(&mut self, step: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.steps {
            steps.push(format!("{:4} {}", self.now, step()));
        }
    }
}

fn compare(index: usize, live: &ShardState, replayed: &ShardState) -> Result<(), Violation> {
    if live == replayed {
        return Ok(());
    }
    Err(format!("shard {index} live: {live:#?}\nreplayed: {replayed:#?}"))
}

fn name_of(reply: &Reply) -> &'static str {
    match reply {
        Ok(Outcome::Account(_)) => "answers: account",
        Ok(Outcome::AccountChanged(_)) => "answers: account changed",
        Ok(Outcome::TokenStands(_)) => "answers: token stands",
        Ok(Outcome::Users(_)) => "answers: users",
        Ok(Outcome::Event(_)) => "answers: event",
        Ok(Outcome::Events(_)) => "answers: events",
        Ok(Outcome::EventDeleted) => "answers: event deleted",
        Ok(Outcome::Reservation(_)) => "answers: reservation",
        Ok(Outcome::Reservations(_)) => "answers: reservations",
        Ok(Outcome::Cancelled) => "answers: cancelled",
        Ok(Outcome::Totals(_)) => "answers: totals",
        Err(Rejection::SoldOut { .. }) => "rejections: sold out",
        Err(Rejection::QuotaBelowCommitted { .. }) => "rejections: quota below committed",
        Err(Rejection::HasReservations { .. }) => "rejections: has reservations",
        Err(Rejection::UsernameTaken) => "rejections: username taken",
        Err(Rejection::UserNotFound) => "rejections: user not found",
        Err(Rejection::TokenEnded) => "rejections: token ended",
        Err(Rejection::EventExists) => "rejections: event exists",
        Err(Rejection::EventNotFound) => "rejections: event not found",
        Err(Rejection::EventDeleted) => "rejections: event deleted",
        Err(Rejection::NotYourEvent) => "rejections: not your event",
        Err(Rejection::ReservationNotFound) => "rejections: reservation not found",
        Err(Rejection::LogFull) => "rejections: log full",
        Err(Rejection::Elsewhere) => "rejections: elsewhere",
    }
}

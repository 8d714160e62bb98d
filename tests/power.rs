//! Power cuts: on an ext4 of its own, in a file, which is shut down in the middle of the work
//! and mounted again. What no sync has made durable is gone then, as after a cut, and unlike
//! after a kill.
//!
//! A cut here takes what the kernel has not written; the cache of a disk that lies about a sync
//! is beyond it. Controls prove that the test sees a lost sync, and that `synchronous=NORMAL` loses.
//!
//! `BOXOFFICE_POWER_CUTS` and `BOXOFFICE_POWER_CONTROLS` set other numbers of rounds. Run alone:
//! `cargo test --test power -- --ignored --nocapture`. On a machine that has no loop devices each
//! test says `SKIPPED`, and why.

mod support;

use std::fs::{self, File};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use shards::clock::Now;
use shards::command::{Actor, Ask, Buyer, Command as Change, CreateEvent, EventName, Query};
use shards::ids::{EventId, Quantity, Quota, Role, Timestamp, UserId};
use shards::log::{Log, LogFile, Mark, MarkFile, SqliteLog, Synchronous};
use shards::outcome::Outcome;
use shards::recovery::{self, Progress};
use shards::shard::Shard;
use support::TestFolder;
use support::crowd::{CLIENTS, Crowd};
use support::random::{Random, rounds};
use support::server::{Server, serve};

const IMAGE_BYTES: u64 = 256 << 20;

/// Within which a crowd's work is ended.
const RUSH_MAX: Duration = Duration::from_millis(200);

/// Long enough for answers on a busy machine, and far below ext4's own commits, every five seconds.
const CONTROL_RUSH: Duration = Duration::from_millis(500);

/// Within which a start is ended: about as long as one takes.
const START_MAX: Duration = Duration::from_millis(120);

/// A killed server's rings hold its files for a moment.
const RELEASE_MAX: Duration = Duration::from_secs(10);

/// A disk with a file system of its own, whose power can be cut.
struct Disk {
    image: PathBuf,
    root: PathBuf,
}

/// What the command said, if it failed.
fn call(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", said.trim())) }
}

impl Disk {
    /// `None`, and a line about it, where this machine cannot.
    fn make(folder: &TestFolder) -> Option<Disk> {
        let disk = Disk { image: folder.path("image"), root: folder.path("disk") };
        fs::create_dir(&disk.root).expect("the folder is ours");
        File::create(&disk.image).and_then(|image| image.set_len(IMAGE_BYTES)).expect("there is room");
        let made = call("mkfs.ext4", &[Path::new("-q"), &disk.image]).and_then(|()| disk.mount());
        match made.and_then(|()| disk.cut()).and_then(|()| disk.mount_again()) {
            Ok(()) => Some(disk),
            Err(why) => {
                println!("SKIPPED: the power cannot be cut on this machine, so that was not tested: {why}");
                None
            }
        }
    }

    fn mount(&self) -> Result<(), String> {
        call("mount", &[Path::new("-o"), Path::new("loop"), &self.image, &self.root])
    }

    /// Nothing reaches the disk from now on, not even what the file system has promised itself.
    fn cut(&self) -> Result<(), String> {
        call("xfs_io", &[Path::new("-x"), Path::new("-c"), Path::new("shutdown"), &self.root])
    }

    /// With what had reached the disk. Whoever had it open has to have ended.
    fn mount_again(&self) -> Result<(), String> {
        let start = Instant::now();
        while let Err(why) = call("umount", &[&self.root]) {
            if start.elapsed() > RELEASE_MAX {
                return Err(why);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.mount()
    }

    fn power_cut(&self) {
        self.cut().expect("it could before");
    }

    fn power_on(&self) {
        self.mount_again().expect("it could before");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The loop device goes with the mount. What is still busy goes when its user does.
        if call("umount", &[&self.root]).is_err() {
            let _ = call("umount", &[Path::new("-l"), &self.root]);
        }
    }
}

fn start(data: &Path, random: &mut Random) -> Server {
    Server::start(data, &["--shards", &random.pick(&[1, 2, 4, 3]).to_string()])
}

/// A crowd whose data is on a disk, and whose ledger is elsewhere.
struct Town {
    data: PathBuf,
    crowd: Crowd,
    disk: Disk,
    _folder: TestFolder,
}

impl Town {
    fn found(random: &mut Random) -> Option<(Town, Server)> {
        let folder = TestFolder::new();
        let disk = Disk::make(&folder)?;
        let data = disk.root.join("data");
        Crowd::create_admin(&data);
        let server = start(&data, random);
        let crowd = Crowd::sign_up(&server, &folder.path("ledger"));
        Some((Town { data, crowd, disk, _folder: folder }, server))
    }

    /// The server answers nobody after the cut, as without power. Of a sync that is under way
    /// while it shuts down, ext4 may say that it went well, where it did not.
    fn cut_under_load(&self, server: Server, random: &mut Random, delay: Duration) -> usize {
        let answers = self.crowd.run(server.address, random, delay, || {
            server.freeze();
            self.disk.power_cut();
            server.kill();
        });
        self.disk.power_on();
        answers
    }

    /// Syncs of SQLite's journals do nothing from now on.
    fn make_syncs_void(&self, server: &Server) -> Child {
        let journals = (0..4).map(|shard| self.data.join(format!("shard-{shard:02}.sqlite-wal")));
        let journals: Vec<PathBuf> = journals.filter(|journal| journal.exists()).collect();
        server.inject("fsync,fdatasync", &journals, "retval=0")
    }

    fn kill_under_load(&self, server: Server, random: &mut Random) -> usize {
        let delay = random.duration(RUSH_MAX);
        self.crowd.run(server.address, random, delay, || server.kill())
    }

    fn cut_at_rest(&self, server: Server) {
        self.disk.power_cut();
        server.kill();
        self.disk.power_on();
    }

    fn cut_during_start(&self, random: &mut Random) {
        let mut command = serve(&self.data);
        command.args(["--shards", "2"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        thread::sleep(random.duration(START_MAX));
        self.disk.power_cut();
        child.kill().expect("it is our child");
        child.wait().expect("it ended");
        self.disk.power_on();
    }
}

#[test]
#[ignore = "needs xfs_io, root and loop devices"]
fn power_cuts_lose_nothing() {
    const ROUNDS_A_LIFE: u64 = 10;
    let rounds = rounds("BOXOFFICE_POWER_CUTS", 10);
    let mut random = Random::seeded();
    let (mut answers, mut unknown) = (0, 0);
    let mut life = None;
    for round in 0..rounds {
        if round.is_multiple_of(ROUNDS_A_LIFE) {
            // One after the other: each has a disk.
            drop(life.take());
            let Some(town) = Town::found(&mut random) else { return };
            life = Some(town);
        }
        let (mut town, server) = life.take().expect("begun above");
        let delay = random.duration(RUSH_MAX);
        answers += town.cut_under_load(server, &mut random, delay);
        let server = start(&town.data, &mut random);
        unknown += town.crowd.settle(&server).unknown;

        // What a start after a kill has shown stays.
        answers += town.kill_under_load(server, &mut random);
        let server = start(&town.data, &mut random);
        unknown += town.crowd.settle(&server).unknown;
        town.cut_at_rest(server);
        let server = start(&town.data, &mut random);
        town.crowd.expect_the_same(&server);

        answers += town.kill_under_load(server, &mut random);
        town.cut_during_start(&mut random);
        let server = start(&town.data, &mut random);
        unknown += town.crowd.settle(&server).unknown;
        life = Some((town, server));
    }
    println!(
        "{rounds} rounds of a power cut under {CLIENTS} clients, one after a kill and a recovery, and \
         one during recovery: {answers} answers, {unknown} unknown outcomes, 0 failures"
    );
    assert!(answers > 10 * rounds as usize, "there was no load");
}

/// What a killed server has left in memory alone, as it does whenever it is killed before a sync.
/// Here it is all that it did, so that none of it is by chance on the disk already. A start that
/// answers has made it durable.
#[test]
#[ignore = "needs xfs_io, strace, root and loop devices"]
fn what_a_recovery_has_shown_survives_a_power_cut() {
    let rounds = rounds("BOXOFFICE_POWER_CUTS", 10).div_ceil(5);
    let mut random = Random::seeded();
    for _ in 0..rounds {
        let Some((mut town, server)) = Town::found(&mut random) else { return };
        let mut strace = town.make_syncs_void(&server);
        town.crowd.run(server.address, &mut random, CONTROL_RUSH, || server.kill());
        strace.wait().expect("strace ends with what it traces");
        let server = start(&town.data, &mut random);
        town.crowd.settle(&server);
        town.cut_at_rest(server);
        let server = start(&town.data, &mut random);
        town.crowd.expect_the_same(&server);
    }
    println!("{rounds} rounds of a kill, a recovery and a power cut, 0 failures");
}

/// The control: the same server, disk, load and ledger, but syncs of SQLite's journal do nothing,
/// which is what `synchronous=NORMAL` would be. If this lost nothing, the test above would prove
/// nothing.
#[test]
#[ignore = "needs xfs_io, strace, root and loop devices"]
fn without_syncs_a_power_cut_does_lose() {
    let rounds = rounds("BOXOFFICE_POWER_CONTROLS", 1);
    let mut random = Random::seeded();
    for _ in 0..rounds {
        let Some((mut town, server)) = Town::found(&mut random) else { return };
        let mut strace = town.make_syncs_void(&server);
        town.cut_under_load(server, &mut random, CONTROL_RUSH);
        strace.wait().expect("strace ends with what it traces");
        let found = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let server = start(&town.data, &mut random);
            town.crowd.settle(&server);
        }));
        let panic = found.expect_err("the syncs did nothing, and nothing was lost");
        let said = panic.downcast_ref::<String>().map_or("", String::as_str);
        // Or the start is refused, by what is written beside the log.
        let ways = ["is lost", "was acknowledged", "the server did not start"];
        assert!(ways.iter().any(|way| said.contains(way)), "{said}");
        println!("lost, as it has to be: {}", said.lines().next().unwrap_or(""));
    }
}

const SALES: u64 = 200;

/// Sells one by one, each in a commit of its own, until the power is cut. Returns what is left.
fn sold_after_a_cut(disk: &Disk, name: &str, synchronous: Synchronous) -> u64 {
    let data = disk.root.join(name);
    let mut recovered = recovery::open(&data, 1, &Progress::default()).expect("a new directory");
    let (state, log) = recovered.shards.pop().expect("one shard");
    let mut shard: Shard<()> = Shard::new(state, &recovered.heads, recovered.epoch);
    drop(log);
    let path = data.join("shard-00.sqlite");
    let file = LogFile::open(&path, synchronous).expect("it was just made");
    let mark_file = MarkFile::create(&path, recovered.cluster).expect("it can be written");
    let mut log = SqliteLog::new(file, mark_file, Mark::EMPTY);
    let event = EventId(1);
    let create = CreateEvent {
        id: event,
        organizer: UserId(1),
        name: EventName::new("An evening").expect("a name"),
        quota: Quota::new(SALES).expect("a quota"),
    };
    let quantity = Quantity::new(1).expect("a quantity");
    let actor = Actor { user: UserId(2), role: Role::Customer };
    let buyer = Buyer::Account(actor.user);
    let sales = (0..SALES).map(|_| Change::Reserve { event, actor, buyer, quantity });
    for change in [Change::CreateEvent(Box::new(create))].into_iter().chain(sales) {
        shard.take_in(Now::at(Timestamp(1)), Ask::Command(change), ());
        let batch = shard.begin_commit().expect("there are tickets left");
        log.append(&batch.entries).expect("the power is on");
        shard.finish_commit(batch);
    }
    disk.power_cut();
    drop((log, recovered));
    disk.power_on();
    match recovery::open(&data, 1, &Progress::default()) {
        Ok(recovered) => match recovered.shards[0].0.query(Now::at(Timestamp(1)), &Query::Event { event }) {
            Ok(Outcome::Event(seen)) => seen.reserved.into(),
            _ => 0,
        },
        // What is written beside the log may say that there was more.
        Err(error) => {
            println!("refused: {error}");
            0
        }
    }
}

/// SQLite's own word for it: why the server has no such option.
#[test]
#[ignore = "needs xfs_io, root and loop devices"]
fn synchronous_normal_loses_and_full_does_not() {
    let folder = TestFolder::new();
    let Some(disk) = Disk::make(&folder) else { return };
    for round in 0..rounds("BOXOFFICE_POWER_CONTROLS", 1) {
        let full = sold_after_a_cut(&disk, &format!("full-{round}"), Synchronous::Full);
        let normal = sold_after_a_cut(&disk, &format!("normal-{round}"), Synchronous::Normal);
        println!("{SALES} sales committed, power cut: FULL has {full}, NORMAL has {normal}");
        assert_eq!(full, SALES);
        assert!(normal < SALES, "NORMAL lost nothing: this test proves nothing");
    }
}

//! Simulated power cuts: an ext4 file system in a file is shut down under load and mounted again.
//! Data that no sync has made durable is lost, as after a power cut and unlike after a kill.
//!
//! Only data that the kernel has not written is lost; the cache of a disk that reports syncs wrongly
//! is not simulated. Control tests show that the method detects a lost sync, and that
//! `synchronous=NORMAL` loses data.
//!
//! `BOXOFFICE_POWER_CUTS` and `BOXOFFICE_POWER_CONTROLS` set the numbers of rounds. Run by name:
//! `cargo test --test power -- --ignored --nocapture`. Without loop devices, each test prints
//! `SKIPPED` and the reason.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use shards::clock::Now;
use shards::command::{Actor, Ask, Buyer, Command as Change, CreateEvent, Query};
use shards::details::{EventName, NewDetails};
use shards::ids::{EventId, Quantity, Quota, Role, Timestamp, UserId};
use shards::log::Log;
use shards::outcome::Outcome;
use shards::replay::Mark;
use shards::shard::Shard;
use storage::{LogFile, MarkFile, Progress, SqliteLog, Synchronous};
use support::crowd::{CLIENTS, Crowd};
use support::random::{Random, rounds};
use support::server::{Server, serve};
use support::{TestFolder, expect_a_loss};

const IMAGE_BYTES: u64 = 256 << 20;

/// The maximum time until a server under load is killed or cut off.
const LOAD_MAX: Duration = Duration::from_millis(200);

/// The duration of the load in controls: long enough for answers on a busy machine, and far below
/// the five seconds between ext4's own commits.
const CONTROL_LOAD: Duration = Duration::from_millis(500);

/// The maximum time until a start is cut off: about the duration of a start.
const START_MAX: Duration = Duration::from_millis(120);

/// The timeout of an unmount, since the io_uring instances of a killed server hold its files for a
/// moment.
const RELEASE_MAX: Duration = Duration::from_secs(10);

/// A file system in a file, whose power can be cut.
struct Disk {
    image: PathBuf,
    root: PathBuf,
}

/// Runs a command; returns its standard error if it fails.
fn call(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", stderr.trim())) }
}

impl Disk {
    /// Creates the disk. Prints a message and returns `None` if this machine cannot.
    fn make(folder: &TestFolder) -> Option<Disk> {
        let disk = Disk { image: folder.path("image"), root: folder.path("disk") };
        fs::create_dir(&disk.root).expect("the folder is ours");
        File::create(&disk.image).and_then(|image| image.set_len(IMAGE_BYTES)).expect("create the image");
        let made = call("mkfs.ext4", &[Path::new("-q"), &disk.image]).and_then(|()| disk.mount());
        match made.and_then(|()| disk.cut()).and_then(|()| disk.mount_again()) {
            Ok(()) => Some(disk),
            Err(why) => {
                println!("SKIPPED: power cuts cannot be simulated on this machine: {why}");
                None
            }
        }
    }

    fn mount(&self) -> Result<(), String> {
        call("mount", &[Path::new("-o"), Path::new("loop"), &self.image, &self.root])
    }

    /// Shuts the file system down: no further write reaches the image.
    fn cut(&self) -> Result<(), String> {
        call("xfs_io", &[Path::new("-x"), Path::new("-c"), Path::new("shutdown"), &self.root])
    }

    /// Mounts what had reached the image. Processes that use the disk must have ended.
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
        self.cut().expect("cut the power, as when the disk was created");
    }

    fn power_on(&self) {
        self.mount_again().expect("mount again, as when the disk was created");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The loop device is released with the mount. A busy mount is detached, and released when
        // its last user ends.
        if call("umount", &[&self.root]).is_err() {
            let _ = call("umount", &[Path::new("-l"), &self.root]);
        }
    }
}

fn start(data: &Path, random: &mut Random) -> Server {
    Server::start(data, &["--shards", &random.pick(&[1, 2, 4, 3]).to_string()])
}

/// A crowd whose data is on a [`Disk`] and whose ledger is not.
struct TestRun {
    data: PathBuf,
    crowd: Crowd,
    disk: Disk,
    _folder: TestFolder,
}

impl TestRun {
    fn begin(random: &mut Random) -> Option<(TestRun, Server)> {
        let folder = TestFolder::new();
        let disk = Disk::make(&folder)?;
        let data = disk.root.join("data");
        Crowd::create_admin(&data);
        let server = start(&data, random);
        let crowd = Crowd::sign_up(&server, &folder.path("ledger"));
        Some((TestRun { data, crowd, disk, _folder: folder }, server))
    }

    /// Cuts the power under load. The server is stopped first, because ext4 may report a sync that
    /// is in flight during the shutdown as successful although it was not.
    fn cut_under_load(&self, server: Server, random: &mut Random, delay: Duration) -> usize {
        let answers = self.crowd.run(server.address, random, delay, || {
            server.freeze();
            self.disk.power_cut();
            server.kill();
        });
        self.disk.power_on();
        answers
    }

    fn kill_under_load(&self, server: Server, random: &mut Random) -> usize {
        let delay = random.duration(LOAD_MAX);
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
    const ROUNDS_PER_DISK: u64 = 10;
    let rounds = rounds("BOXOFFICE_POWER_CUTS", 10);
    let mut random = Random::seeded();
    let (mut answers, mut unknown) = (0, 0);
    let mut previous = None;
    for round in 0..rounds {
        if round.is_multiple_of(ROUNDS_PER_DISK) {
            // Dropped first, so that only one disk exists at a time.
            drop(previous.take());
            let Some(new) = TestRun::begin(&mut random) else { return };
            previous = Some(new);
        }
        let (mut run, server) = previous.take().expect("begun above");
        let delay = random.duration(LOAD_MAX);
        answers += run.cut_under_load(server, &mut random, delay);
        let server = start(&run.data, &mut random);
        unknown += run.crowd.settle(&server).unknown;

        // The state that a start after a kill has shown survives a power cut.
        answers += run.kill_under_load(server, &mut random);
        let server = start(&run.data, &mut random);
        unknown += run.crowd.settle(&server).unknown;
        run.cut_at_rest(server);
        let server = start(&run.data, &mut random);
        run.crowd.expect_the_same(&server);

        answers += run.kill_under_load(server, &mut random);
        run.cut_during_start(&mut random);
        let server = start(&run.data, &mut random);
        unknown += run.crowd.settle(&server).unknown;
        previous = Some((run, server));
    }
    println!(
        "{rounds} rounds of a power cut under {CLIENTS} clients, one after a kill and a recovery, and \
         one during recovery: {answers} answers, {unknown} unknown outcomes, 0 failures"
    );
    assert!(answers > 10 * rounds as usize, "there was no load");
}

/// What may become of a journal after a power cut, when someone tidies up or a file system is repaired.
fn lose(journal: &Path, way: &str) {
    let length = fs::metadata(journal).expect("it is there").len();
    match way {
        "removed" => fs::remove_file(journal).expect("it is there"),
        "emptied" => File::create(journal).map(drop).expect("it can be written"),
        _ => {
            let zeros = File::create(journal).and_then(|file| file.set_len(length));
            zeros.expect("it can be written");
        }
    }
}

/// The mark beside each log is not synced with each commit, but it shows that its journal has records.
#[test]
#[ignore = "needs xfs_io, root and loop devices"]
fn a_journal_that_is_gone_after_a_power_cut_is_noticed() {
    let mut random = Random::seeded();
    for way in ["removed", "emptied", "all zeros"] {
        let Some((mut run, server)) = TestRun::begin(&mut random) else { return };
        let answers = run.cut_under_load(server, &mut random, LOAD_MAX);
        let files = fs::read_dir(&run.data).expect("it is a directory");
        let journals = files.map(|file| file.expect("it can be listed").path());
        let journals = journals.filter(|path| path.to_string_lossy().ends_with("-wal"));
        let journals: Vec<(PathBuf, Vec<u8>)> =
            journals.map(|path| (path.clone(), fs::read(&path).expect("it can be read"))).collect();
        let mut refused = 0;
        for (journal, bytes) in journals.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            lose(journal, way);
            let ended = support::server::run(serve(&run.data), "");
            assert!(
                ended.code == Some(1) && ended.stderr.contains("-wal, was removed"),
                "{way}: {}",
                ended.stderr
            );
            fs::write(journal, bytes).expect("it is put back");
            refused += 1;
        }
        assert!(answers > 0 && refused > 0, "{answers} answers, {refused} journals with records");
        let server = start(&run.data, &mut random);
        run.crowd.settle(&server);
        println!(
            "{way}: {answers} answers, {refused} starts refused; with the journals put back, nothing is lost"
        );
    }
}

/// A killed server may leave data in the page cache only, if it is killed before a sync. Here no
/// sync is done, so that none of the data is on the disk. A restarted server must make what it has
/// recovered durable before it answers.
#[test]
#[ignore = "needs xfs_io, strace, root and loop devices"]
fn recovered_state_survives_a_power_cut() {
    let rounds = rounds("BOXOFFICE_POWER_CUTS", 10).div_ceil(5);
    let mut random = Random::seeded();
    for _ in 0..rounds {
        let Some((mut run, server)) = TestRun::begin(&mut random) else { return };
        let mut strace = server.disable_syncs(&run.data);
        run.crowd.run(server.address, &mut random, CONTROL_LOAD, || server.kill());
        strace.wait().expect("strace ends with what it traces");
        let server = start(&run.data, &mut random);
        run.crowd.settle(&server);
        run.cut_at_rest(server);
        let server = start(&run.data, &mut random);
        run.crowd.expect_the_same(&server);
    }
    println!("{rounds} rounds of a kill, a recovery and a power cut, 0 failures");
}

/// The control: the same server, disk, load and ledger, but syncs of SQLite's journal do nothing, as
/// with `synchronous=NORMAL`. Data must be lost, else the tests above would prove nothing.
#[test]
#[ignore = "needs xfs_io, strace, root and loop devices"]
fn without_syncs_a_power_cut_loses_data() {
    let rounds = rounds("BOXOFFICE_POWER_CONTROLS", 1);
    let mut random = Random::seeded();
    for _ in 0..rounds {
        let Some((mut run, server)) = TestRun::begin(&mut random) else { return };
        let mut strace = server.disable_syncs(&run.data);
        run.cut_under_load(server, &mut random, CONTROL_LOAD);
        strace.wait().expect("strace ends with what it traces");
        let found = expect_a_loss(|| {
            let server = start(&run.data, &mut random);
            run.crowd.settle(&server);
        });
        println!("lost, as expected: {found}");
    }
}

const SALES: u64 = 200;

/// Makes reservations in one commit each, then cuts the power. Returns how many are left.
fn sold_after_a_cut(disk: &Disk, name: &str, synchronous: Synchronous) -> u64 {
    let data = disk.root.join(name);
    let mut recovered = storage::open(&data, 1, &Progress::default()).expect("a new directory");
    let (state, log) = recovered.shards.pop().expect("one shard");
    let mut shard: Shard<()> = Shard::new(state, &recovered.heads, recovered.epoch);
    drop(log);
    let path = data.join("shard-00.sqlite");
    let file = LogFile::open(&path, synchronous).expect("it was just made");
    let mark_file = MarkFile::create(&path, recovered.cluster).expect("it can be written");
    let mut log =
        SqliteLog::alone(file, mark_file, Mark::EMPTY, recovered.epoch).expect("its files are there");
    let event = EventId(1);
    let create = CreateEvent {
        id: event,
        organizer: UserId(1),
        key: None,
        details: NewDetails::new(
            EventName::new("An evening").expect("a name"),
            Quota::new(SALES).expect("a quota"),
        ),
    };
    let quantity = Quantity::new(1).expect("a quantity");
    let actor = Actor::new(UserId(2), Role::Customer);
    let buyer = Buyer::Account(actor.user);
    let sales = (0..SALES).map(|_| Change::Reserve { event, actor, buyer: buyer.clone(), quantity });
    for change in [Change::CreateEvent(Box::new(create))].into_iter().chain(sales) {
        shard.take_in(Now::at(Timestamp(1)), Ask::Command(change), ());
        let batch = shard.begin_commit().expect("there are tickets left");
        log.append(&batch.entries, Duration::ZERO).expect("the power is on");
        shard.finish_commit(batch);
    }
    disk.power_cut();
    drop((log, recovered));
    disk.power_on();
    match storage::open(&data, 1, &Progress::default()) {
        Ok(recovered) => match recovered.shards[0].0.query(&Query::Event { event }) {
            Ok(Outcome::Event(seen)) => seen.reserved.into(),
            _ => 0,
        },
        // The mark file may show that records are missing.
        Err(error) => {
            println!("refused: {error}");
            0
        }
    }
}

/// SQLite documents that `synchronous=NORMAL` may lose commits, so the server has no such option.
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
        assert!(normal < SALES, "NORMAL lost nothing, so this test proves nothing");
    }
}

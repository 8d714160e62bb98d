//! Power cuts at every moment: a block device records each write and each flush that reaches it while a server
//! starts, sells, writes its journals back, stops and recovers. An image is what a disk may have after a power
//! cut: everything before its last flush, and of the writes after it none, all, some, or a part of one. A
//! server starts on each image, and what it shows is compared with what clients knew when the power was cut.
//! The power is cut during some of these recoveries, too.
//!
//! tests/power.rs loses what the kernel has not written. Here the disk also has a cache, which it writes in any
//! order.
//!
//! `BOXOFFICE_POWER_IMAGES` sets the number of images. Run by name:
//! `cargo test --test power_images -- --ignored --nocapture`. Without FUSE, loop devices or root, each test
//! prints `SKIPPED` and the reason.

#[path = "support/device.rs"]
mod device;
#[path = "support/fuse.rs"]
mod fuse;
#[path = "support/recording.rs"]
mod recording;
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use device::{Content, Device};
use recording::{Recording, Unflushed};
use serde_json::json;
use support::crowd::Crowd;
use support::random::{Random, rounds};
use support::server::Server;
use support::{PASSWORD, TestFolder, expect_a_loss};

/// A recording takes as long as some ten images.
const IMAGES_PER_RECORDING: u64 = 50;

/// The file systems, which differ in what they write when.
const FILE_SYSTEMS: [&[&str]; 3] = [
    &["mkfs.ext4", "-q", "-F", "-b", "4096"],
    &["mkfs.xfs", "-q", "-f"],
    &["mkfs.ext4", "-q", "-F", "-b", "1024"],
];

/// Each seventh client: 8 buyers, an organizer and a registrar.
const EACH: usize = 7;
/// Each 19th client, for the load until checkpoints: 3 buyers and an organizer. With few clients, a commit has
/// few changes, and every comparison reads all of them.
const FEW: usize = 19;

const JOURNALS_BEGUN_ANEW: usize = 2;
const FLUSHES_AFTER_A_CHECKPOINT: usize = 100;
const FLUSHES_AFTER_A_RECOVERY: usize = 20;
const LOAD_MAX: Duration = Duration::from_secs(60);

/// The flushes that a disk ignores in the control: every client has had answers meanwhile.
const FLUSHES_IGNORED: usize = 50;

/// Far below the time after which a kernel writes by itself.
const LOAD_WITHOUT_SYNCS: Duration = Duration::from_millis(500);

/// A device with a file system, and a folder outside it.
struct Bench {
    device: Device,
    folder: TestFolder,
}

impl Bench {
    /// Prints a message and returns `None` if this machine cannot.
    fn make(file_system: &[&str]) -> Option<Bench> {
        let folder = TestFolder::new();
        let made = Device::make(&folder.path("")).and_then(|device| {
            device.format(file_system)?;
            device.mount()?;
            Ok(device)
        });
        match made {
            Ok(device) => Some(Bench { device, folder }),
            Err(why) => {
                println!("SKIPPED: writes to a block device cannot be recorded on this machine: {why}");
                None
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.device.root.join("data")
    }

    fn start(&self, random: &mut Random) -> Server {
        Server::start(&self.data(), &["--shards", &random.pick(&[1, 2, 4, 3]).to_string()])
    }

    /// Records a first start, a load with checkpoints, a clean stop, a start, a kill under load, and a
    /// recovery. Returns the positions between these, too.
    fn record(&self, random: &mut Random) -> (Recording, [usize; 8]) {
        let ledger = self.folder.path("ledger");
        let base = self.device.record(&ledger);
        Crowd::create_admin(&self.data());
        let admin = self.device.position();
        let server = Server::start(&self.data(), &["--shards", "2"]);
        let started = self.device.position();
        let mut crowd = Crowd::sign_up(&server, &ledger);
        let signed_up = self.device.position();
        let until = (JOURNALS_BEGUN_ANEW, FLUSHES_AFTER_A_CHECKPOINT);
        let loaded = self.load(FEW, (&crowd, server.address), random, until, || server.signal_to_end());
        let (status, log) = server.end();
        assert_eq!(status.code(), Some(0), "{log}");
        let stopped = self.device.position();
        let server = self.start(random);
        let started_again = self.device.position();
        crowd.settle(&server);
        let until = (0, random.within(1, 200) as usize);
        let killed = self.load(EACH, (&crowd, server.address), random, until, || server.kill());
        let server = self.start(random);
        let recovered = self.device.position();
        crowd.settle(&server);
        server.kill();
        self.device.unmount();
        let (entries, accounts) = (self.device.entries(), vec![("root", admin)]);
        let recording = Recording { base, entries, ledger, crowd: Some(crowd), accounts };
        (recording, [admin, started, signed_up, loaded, stopped, started_again, killed, recovered])
    }

    /// Runs each `nth` client until the device has begun this many journals, and then done this many flushes, and
    /// calls `end`. Returns the position before that.
    fn load(
        &self,
        nth: usize,
        (crowd, address): (&Crowd, SocketAddr),
        random: &mut Random,
        (journals, flushes): (usize, usize),
        end: impl FnOnce(),
    ) -> usize {
        let start = Instant::now();
        let wait = |count: &dyn Fn() -> usize, more: usize| {
            let before = count();
            while count() < before + more && start.elapsed() < LOAD_MAX {
                thread::sleep(Duration::from_millis(5));
            }
        };
        let mut position = 0;
        crowd.run_each(nth, address, random, || {
            wait(&|| self.device.journals(), journals);
            wait(&|| self.device.flushes(), flushes);
            position = self.device.position();
            end();
        });
        assert!(start.elapsed() < LOAD_MAX, "there were not {journals} new journals and {flushes} flushes");
        position
    }

    /// Starts a server on the image of a cut, and compares what it shows with what clients knew at the cut.
    /// Records that, and a load afterwards.
    fn check(&self, recording: &Recording, cut: usize, image: Content, random: &mut Random) -> Recording {
        let known = recording.entries[cut].ledger;
        let ledger = recording.ledger.with_added_extension("image");
        let crowd = recording.crowd.as_ref().filter(|_| known > 0);
        let mut crowd = crowd.map(|crowd| crowd.as_of(known, &ledger));
        self.device.load(image);
        let base = self.device.record(if crowd.is_some() { &ledger } else { Path::new("") });
        self.device.mount().expect("the file system recovers");
        let server = self.start(random);
        let mut accounts = recording.accounts.clone();
        accounts.retain(|(_, at)| *at <= cut);
        match &mut crowd {
            Some(crowd) => {
                crowd.settle(&server);
                if crowd.has_signed_up() {
                    self.load(EACH, (crowd, server.address), random, (0, FLUSHES_AFTER_A_RECOVERY), || {});
                }
            }
            None => {
                let client = server.client();
                for (username, at) in &mut accounts {
                    client.log_in(username, PASSWORD);
                    *at = 0;
                }
                let body = json!({ "username": "early", "password": PASSWORD });
                let made = client.post("/api/v1/users", &body);
                // It may be there from before a cut that came before its answer.
                assert!([201, 409].contains(&made.status), "{made:?}");
                accounts.push(("early", self.device.position()));
            }
        }
        server.kill();
        self.device.unmount();
        Recording { base, entries: self.device.entries(), ledger, crowd, accounts }
    }

    /// Like `check`, and keeps an image that fails.
    fn check_or_keep(
        &self,
        recording: &Recording,
        cut: usize,
        image: &Content,
        random: &mut Random,
    ) -> Recording {
        let checked = catch_unwind(AssertUnwindSafe(|| self.check(recording, cut, image.clone(), random)));
        checked.unwrap_or_else(|panic| {
            let path = self.folder.path("image");
            image.save(&path).expect("there is room");
            eprintln!("cut before entry {cut} of {}: {}", recording.entries.len(), path.display());
            resume_unwind(panic)
        })
    }
}

/// How many images there were of each kind.
#[derive(Default)]
struct Tried {
    images: BTreeMap<Unflushed, usize>,
    with_unflushed: usize,
}

impl Tried {
    fn image(&mut self, recording: &Recording, cut: usize, random: &mut Random) -> Content {
        let kind = random.pick(&[Unflushed::Dropped, Unflushed::Kept, Unflushed::Subset, Unflushed::Torn]);
        let flushed = recording.flush_before(cut, 0);
        *self.images.entry(kind).or_default() += 1;
        self.with_unflushed += usize::from(recording.writes(flushed, cut) > 0);
        recording.image(flushed, cut, kind, random)
    }
}

#[test]
#[ignore = "needs FUSE, root and loop devices"]
fn images_of_power_cuts_lose_nothing() {
    let images = rounds("BOXOFFICE_POWER_IMAGES", 2 * IMAGES_PER_RECORDING);
    let mut random = Random::seeded();
    let (mut tried, mut tried_again) = (Tried::default(), Tried::default());
    for (number, file_system) in (0..images.div_ceil(IMAGES_PER_RECORDING)).zip(FILE_SYSTEMS.iter().cycle()) {
        let Some(bench) = Bench::make(file_system) else { return };
        let (recording, moments) = bench.record(&mut random);
        let [_, _, signed_up, loaded, ..] = moments;
        let headers = recording.headers(0..recording.entries.len());
        // Each of these first: the moments, and where a journal is written back and begun anew under load.
        let mut places = moments.into_iter().chain(recording.headers(signed_up..loaded));
        for image in 0..IMAGES_PER_RECORDING.min(images - number * IMAGES_PER_RECORDING) {
            let cut = if image % 3 == 0 {
                recording.any_cut(&mut random)
            } else {
                let place = places.next().unwrap_or_else(|| random.pick(&headers));
                recording.cut_near(place, &mut random)
            };
            let content = tried.image(&recording, cut, &mut random);
            let recovery = bench.check_or_keep(&recording, cut, &content, &mut random);
            if image % 3 == 0 {
                let cut = recovery.any_cut(&mut random);
                let content = tried_again.image(&recovery, cut, &mut random);
                bench.check_or_keep(&recovery, cut, &content, &mut random);
            }
        }
        println!("{}: {} writes and flushes", file_system[0], recording.entries.len());

        // The control: the same recording and comparison, and a disk that ignored its last flushes.
        let ignored = recording.flush_before(loaded, FLUSHES_IGNORED);
        let content = recording.image(ignored, loaded, Unflushed::Dropped, &mut random);
        let found = expect_a_loss(|| drop(bench.check(&recording, loaded, content, &mut random)));
        println!("lost, as expected, by a disk that ignores flushes: {found}");
    }
    for (tried, when) in [(&tried, "of a server at work"), (&tried_again, "of a recovery from one of these")]
    {
        println!(
            "images {when}: {:?}, {} with unflushed writes; 0 failures",
            tried.images, tried.with_unflushed
        );
    }
}

/// The control: the same device, load and comparison, but syncs of SQLite's journal do nothing, as with
/// `synchronous=NORMAL`.
#[test]
#[ignore = "needs FUSE, strace, root and loop devices"]
fn without_syncs_an_image_lacks_what_clients_knew() {
    let mut random = Random::seeded();
    let Some(bench) = Bench::make(FILE_SYSTEMS[0]) else { return };
    let ledger = bench.folder.path("ledger");
    let base = bench.device.record(&ledger);
    Crowd::create_admin(&bench.data());
    let server = Server::start(&bench.data(), &["--shards", "2"]);
    let crowd = Crowd::sign_up(&server, &ledger);
    let mut strace = server.disable_syncs(&bench.data());
    let mut cut = 0;
    crowd.run_each(EACH, server.address, &mut random, || {
        thread::sleep(LOAD_WITHOUT_SYNCS);
        server.freeze();
        cut = bench.device.position();
        server.kill();
    });
    strace.wait().expect("strace ends with what it traces");
    bench.device.unmount();
    let entries = bench.device.entries();
    let recording = Recording { base, entries, ledger, crowd: Some(crowd), accounts: Vec::new() };
    let content = recording.image(cut, cut, Unflushed::Kept, &mut random);
    let found = expect_a_loss(|| drop(bench.check(&recording, cut, content, &mut random)));
    println!("lost, as expected, without syncs: {found}");
}

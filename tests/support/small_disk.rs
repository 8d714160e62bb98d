//! Small file systems that become full, and what a server without room answers.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::client::Answer;

/// A small file system, which is unmounted on drop.
pub(crate) struct SmallDisk {
    pub(crate) path: PathBuf,
    _parent: tempfile::TempDir,
}

impl SmallDisk {
    /// A file system in memory, with these options of its mount.
    pub(crate) fn tmpfs(options: &str) -> SmallDisk {
        SmallDisk::mount(Path::new("tmpfs"), &["-t", "tmpfs", "-o", options], None)
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// A file system in a file of this many MiB, made by a command and its arguments. Prints `SKIPPED` if this
    /// machine cannot make or mount it.
    pub(crate) fn in_a_file(mib: u64, make: &[&str]) -> Option<SmallDisk> {
        let parent = tempfile::tempdir().expect("a directory");
        let image = parent.path().join("image");
        let file = File::create_new(&image).expect("a file");
        file.set_len(mib << 20).expect("it is sparse");
        let made = call(Command::new(make[0]).args(&make[1..]).arg(&image));
        let disk = made.and_then(|()| SmallDisk::mount(&image, &["-o", "loop"], Some(parent)));
        disk.map_err(|why| println!("SKIPPED: no {} on this machine: {why}", make[0])).ok()
    }

    fn mount(what: &Path, how: &[&str], parent: Option<tempfile::TempDir>) -> Result<SmallDisk, String> {
        let parent = parent.unwrap_or_else(|| tempfile::tempdir().expect("a directory"));
        let path = parent.path().join("disk");
        fs::create_dir(&path).expect("a directory");
        call(Command::new("mount").args(how).arg(what).arg(&path))?;
        Ok(SmallDisk { path, _parent: parent })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Uses up all free space.
    pub(crate) fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).expect("a file");
        for size in [1 << 16, 1 << 12] {
            while filler.write_all(&vec![0; size]).is_ok() {}
            // Where space is given out when it is written back.
            let _ = filler.sync_all();
        }
        while filler.write_all(&[0; 1 << 12]).is_ok() {}
    }

    /// Makes this much room after [`SmallDisk::fill`].
    pub(crate) fn give_back(&self, bytes: u64) {
        let filler = File::options().write(true).open(self.filler()).expect("the disk was filled before");
        let length = filler.metadata().expect("it is open").len();
        filler.set_len(length - bytes).expect("it is longer");
    }

    /// Makes all room after [`SmallDisk::fill`].
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.filler()).expect("the disk was filled before");
    }

    /// Uses up all inodes.
    pub(crate) fn fill_inodes(&self) {
        let files = self.path.join("files");
        fs::create_dir(&files).expect("there is an inode");
        let mut numbers = 0..100_000;
        assert!(numbers.any(|number| File::create(files.join(number.to_string())).is_err()), "many inodes");
    }

    /// Makes inodes free after [`SmallDisk::fill_inodes`].
    pub(crate) fn free_inodes(&self) {
        fs::remove_dir_all(self.path.join("files")).expect("they were filled before");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.path).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.path.display());
    }
}

fn call(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(errors) }
}

/// Checks the refusal of a change.
pub(crate) fn check_refused(answer: Answer) {
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    answer.problem(507, "log-full");
}

/// Sends a request until it succeeds. Returns the answer and the time it took.
pub(crate) fn until_done(mut send: impl FnMut() -> Answer) -> (Answer, Duration) {
    let start = Instant::now();
    loop {
        let answer = send();
        if answer.status < 300 {
            return (answer, start.elapsed());
        }
        check_refused(answer);
        assert!(start.elapsed() < Duration::from_secs(60), "there is space, but changes are still refused");
        thread::sleep(Duration::from_millis(50));
    }
}

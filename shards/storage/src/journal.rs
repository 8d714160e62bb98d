//! Finds damage in SQLite's journal (its WAL) that SQLite does not notice. It reads the journal without
//! SQLite.
//!
//! SQLite reads frames up to the first one with a wrong checksum. A commit that was cut off leaves such a
//! frame, but so does one flipped bit in the middle of the journal, and SQLite cannot tell the two apart. The
//! frames after the wrong one show the difference. A commit starts only after the previous one is synced, so
//! if frames of two commits follow, the first of the two was durable, and the wrong frame is damage. There
//! are two commits if one ends and a frame follows it, or if a page occurs twice, since a commit writes each
//! page once.
//!
//! This requires that no commit overwrites the frames of a commit that was cut off or found no room. So a
//! start, and the probe of a full log, empty the journal before they write, or cut it after its last commit if
//! a reader needs what is in it.
//!
//! The format: <https://sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const MAGIC_LITTLE_ENDIAN: u32 = 0x377f_0682;
const MAGIC_BIG_ENDIAN: u32 = 0x377f_0683;

/// Damage by which a journal has lost commits that were durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The header is wrong, so SQLite would treat the journal as empty.
    Header,
    /// The frame of this number, from 1, is wrong, and the frames after it show that it was durable.
    Frame(u64),
}

/// The path of a log's journal. SQLite keeps it beside the file itself if the log is a symbolic link.
pub(crate) fn journal_of(log: &Path) -> PathBuf {
    beside(log, "-wal")
}

/// The path of the file with the index of a log's journal, which SQLite maps into memory.
pub(crate) fn shared_memory_of(log: &Path) -> PathBuf {
    beside(log, "-shm")
}

fn beside(log: &Path, suffix: &str) -> PathBuf {
    let target = if log.is_symlink() { fs::canonicalize(log).ok() } else { None };
    let mut name = target.unwrap_or_else(|| log.to_owned()).into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Cuts the journal of a log file after this many frames, and syncs it. The caller has the log's write lock, and
/// SQLite reads no frame after these.
///
/// # Errors
///
/// When the disk refuses.
pub(crate) fn cut(log: &Path, frames: u64) -> io::Result<()> {
    let journal = match File::options().read(true).write(true).open(journal_of(log)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        journal => journal?,
    };
    let length = journal.metadata()?.len();
    let mut header = [0; HEADER_BYTES];
    // With no frames, the header may be that of frames which are written back.
    if frames > 0 {
        journal.read_exact_at(&mut header, 0)?;
    }
    let end = length_of(frames, word(&header, 8).into());
    if length > end {
        journal.set_len(end)?;
        journal.sync_all()?;
    }
    Ok(())
}

/// Looks for damage in the journal of a log file. A missing journal counts as an empty one.
///
/// # Errors
///
/// When it cannot be read.
pub(crate) fn find_damage(log: &Path) -> io::Result<Option<Damage>> {
    let file = match File::open(journal_of(log)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    read_journal(BufReader::with_capacity(1 << 18, file))
}

fn read_journal(mut journal: impl BufRead) -> io::Result<Option<Damage>> {
    let mut header = [0; HEADER_BYTES];
    if !read_whole(&mut journal, &mut header)? {
        return Ok(None);
    }
    let Some(mut checksum) = Checksum::of_header(&header) else {
        // SQLite syncs the header before it writes the first frame. So if the header is not valid, there must
        // be no frames. A journal may be larger than memory.
        for byte in header.into_iter().map(Ok).chain(journal.bytes()) {
            if byte? != 0 {
                return Ok(Some(Damage::Header));
            }
        }
        return Ok(None);
    };
    let (salt, other_salt) = (&header[16..20], &header[20..24]);
    let mut frame = vec![0; FRAME_HEADER_BYTES + word(&header, 8) as usize];
    let mut wrong = None;
    let mut pages_of_commit = BTreeSet::new();
    let mut commit_ended = false;
    for number in 1.. {
        if !read_whole(&mut journal, &mut frame)? {
            break;
        }
        // One matching salt is enough to assign a frame to this generation, so damage to the other one does
        // not hide the frame.
        let (salt_is_ours, other_is_ours) = (frame[8..12] == *salt, frame[12..16] == *other_salt);
        let of_this_generation = salt_is_ours || other_is_ours;
        let ends_commit = word(&frame, 4) != 0;
        if wrong.is_none() {
            checksum.add(&frame[..8]);
            checksum.add(&frame[FRAME_HEADER_BYTES..]);
            if !(salt_is_ours && other_is_ours && checksum.is(&frame[16..24])) {
                wrong = Some(number);
            } else if ends_commit {
                pages_of_commit.clear();
                continue;
            }
        }
        if of_this_generation {
            let written_twice = !pages_of_commit.insert(word(&frame, 0));
            if wrong.is_some() && (commit_ended || written_twice) {
                return Ok(wrong.map(Damage::Frame));
            }
            commit_ended = ends_commit;
        }
    }
    Ok(None)
}

/// Whether these are the first bytes of a journal.
pub(crate) fn is_header(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && matches!(word(bytes, 0), MAGIC_LITTLE_ENDIAN | MAGIC_BIG_ENDIAN)
}

/// The length of a journal with this many frames, each of a page of this size.
pub(crate) fn length_of(frames: u64, page_bytes: u64) -> u64 {
    match frames {
        0 => 0,
        frames => HEADER_BYTES as u64 + frames * (FRAME_HEADER_BYTES as u64 + page_bytes),
    }
}

/// Fills the buffer; false if the rest of the journal is too short for that.
fn read_whole(journal: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match journal.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        result => result.map(|()| true),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The checksum that runs from the header through all frames.
struct Checksum {
    sums: [u32; 2],
    read_word: fn([u8; 4]) -> u32,
}

impl Checksum {
    /// `None` for bytes that are no header.
    fn of_header(header: &[u8; HEADER_BYTES]) -> Option<Checksum> {
        let read_word = match word(header, 0) {
            MAGIC_LITTLE_ENDIAN => u32::from_le_bytes,
            MAGIC_BIG_ENDIAN => u32::from_be_bytes,
            _ => return None,
        };
        let mut checksum = Checksum { sums: [0; 2], read_word };
        checksum.add(&header[..24]);
        let page_is_sane = matches!(word(header, 8), 512..=65536);
        (checksum.is(&header[24..]) && page_is_sane).then_some(checksum)
    }

    fn add(&mut self, bytes: &[u8]) {
        let [mut a, mut b] = self.sums;
        let (words, _) = bytes.as_chunks::<4>();
        let (pairs, _) = words.as_chunks::<2>();
        for [first, second] in pairs {
            a = a.wrapping_add((self.read_word)(*first)).wrapping_add(b);
            b = b.wrapping_add((self.read_word)(*second)).wrapping_add(a);
        }
        self.sums = [a, b];
    }

    fn is(&self, written: &[u8]) -> bool {
        self.sums == [word(written, 0), word(written, 4)]
    }
}

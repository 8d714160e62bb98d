//! SQLite's journal (its WAL), read without SQLite: is there anything behind the
//! point where SQLite stops reading that shows that it stops too early?
//!
//! SQLite takes frames up to the first whose checksum is wrong, which is what a
//! commit that was cut off leaves. One flipped bit in the middle looks the same
//! to it. But a commit starts only when the one before is synced: where there are
//! frames of two commits behind that point, the first of them was durable, and
//! the wrong frame is damage. They are two where one ends and more follows, and
//! where a page is there twice: a commit writes each page once. For that to hold,
//! no commit may go over the frames of one that was cut off or found no room: a
//! start, and the probe of a full log, empty the journal before they write.
//!
//! The format: <https://sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const MAGIC_LITTLE_ENDIAN: u32 = 0x377f_0682;
const MAGIC_BIG_ENDIAN: u32 = 0x377f_0683;

/// What shows that a journal lost commits that were durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The header is wrong, so that SQLite would take the journal for an empty one.
    Header,
    /// This frame is wrong, counted from 1, and there is more behind it.
    Frame(u64),
}

pub(crate) fn journal_of(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
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

fn read_journal(mut journal: impl Read) -> io::Result<Option<Damage>> {
    let mut header = [0; HEADER_BYTES];
    if !read_whole(&mut journal, &mut header)? {
        return Ok(None);
    }
    let Some(mut checksum) = Checksum::of_header(&header) else {
        // A header is synced before the first frame, so without a sound header nothing may follow.
        let mut rest = Vec::new();
        journal.read_to_end(&mut rest)?;
        let nothing = header.iter().chain(&rest).all(|&byte| byte == 0);
        return Ok(if nothing { None } else { Some(Damage::Header) });
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
        // Either salt identifies the generation, so that damage to one of them is noticed by the other.
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

/// Fills the buffer; false at the end of the journal, also when only a part is left.
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

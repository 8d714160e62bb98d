//! A table of fixed size, in which new entries replace those of least worth.

/// Entries in a set.
const WAYS: usize = 8;

pub(crate) trait Entry: Copy + Default {
    /// The entry with the least worth in a full set is replaced by a new one. `now` is in the unit of the entry's own
    /// times.
    fn worth(&self, now: u64) -> u64;
}

/// A set-associative table: a hash selects a set, in which its entry may be at any index.
pub(crate) struct Table<E> {
    sets: Vec<[(u64, E); WAYS]>,
}

impl<E: Entry> Table<E> {
    /// A table with room for `entries` or somewhat more.
    pub(crate) fn new(entries: usize) -> Table<E> {
        let sets = (entries / WAYS).next_power_of_two();
        Table { sets: vec![[(0, E::default()); WAYS]; sets] }
    }

    fn set(&mut self, hash: u64) -> &mut [(u64, E); WAYS] {
        let index = hash as usize & (self.sets.len() - 1);
        &mut self.sets[index]
    }

    pub(crate) fn get(&mut self, hash: u64) -> Option<&mut E> {
        let found = self.set(hash).iter_mut().find(|(known, _)| *known == hash);
        found.map(|(_, entry)| entry)
    }

    /// The entry of a hash. A new entry replaces the one of least worth in its set.
    pub(crate) fn entry(&mut self, hash: u64, now: u64) -> &mut E {
        let set = self.set(hash);
        let way = set.iter().position(|(known, _)| *known == hash).unwrap_or_else(|| {
            let least = (0..WAYS).min_by_key(|&way| set[way].1.worth(now));
            let least = least.expect("a set has entries");
            set[least] = (hash, E::default());
            least
        });
        &mut set[way].1
    }
}

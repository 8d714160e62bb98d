//! Jobs that wait for a thread, in a line for each client.

use std::collections::VecDeque;

/// Lines that take turns, so that a client with many jobs does not keep the others waiting. While there is room,
/// a client may have any number of jobs. When there is none, the longest line gives up its last job to a client
/// whose line is shorter by two or more.
pub(super) struct Lines<C, J> {
    /// In the order of their next turns. None of them is empty.
    lines: VecDeque<(C, VecDeque<J>)>,
    waiting: usize,
    waiting_max: usize,
}

impl<C: PartialEq, J> Lines<C, J> {
    pub(super) fn new(waiting_max: usize) -> Lines<C, J> {
        Lines { lines: VecDeque::new(), waiting: 0, waiting_max }
    }

    /// Puts a job at the end of its client's line. Returns the job that has no place: this one, or one that lost
    /// its place to this one.
    pub(super) fn push(&mut self, client: C, job: J) -> Option<J> {
        let own = self.lines.iter().position(|(owner, _)| *owner == client);
        let mut displaced = None;
        if self.waiting == self.waiting_max {
            let ours = own.map_or(0, |own| self.lines[own].1.len());
            let longest = self.lines.iter_mut().map(|(_, line)| line).max_by_key(|line| line.len());
            match longest.filter(|longest| longest.len() > ours + 1) {
                // It stays a line of one job or more.
                Some(longest) => displaced = longest.pop_back(),
                None => return Some(job),
            }
        } else {
            self.waiting += 1;
        }
        match own {
            Some(own) => self.lines[own].1.push_back(job),
            None => self.lines.push_back((client, VecDeque::from([job]))),
        }
        displaced
    }

    /// Takes out the first job of the line whose turn it is.
    pub(super) fn pop(&mut self) -> Option<J> {
        let (client, mut line) = self.lines.pop_front()?;
        let job = line.pop_front();
        if !line.is_empty() {
            self.lines.push_back((client, line));
        }
        self.waiting -= 1;
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn popped<J>(lines: &mut Lines<char, J>) -> Vec<J> {
        std::iter::from_fn(|| lines.pop()).collect()
    }

    #[test]
    fn lines_take_turns() {
        let mut lines = Lines::new(10);
        for (client, job) in [('a', 1), ('a', 2), ('a', 3), ('b', 4), ('c', 5), ('b', 6)] {
            assert_eq!(lines.push(client, job), None);
        }
        assert_eq!(lines.pop(), Some(1));
        assert_eq!(lines.push('d', 7), None);
        assert_eq!(popped(&mut lines), [4, 5, 2, 7, 6, 3]);
        assert_eq!(lines.pop(), None);
    }

    #[test]
    fn the_longest_line_gives_up_its_last_job() {
        let mut lines = Lines::new(4);
        for job in 1..=4 {
            assert_eq!(lines.push('a', job), None, "one client may have all places");
        }
        assert_eq!(lines.push('a', 5), Some(5));
        assert_eq!(lines.push('b', 6), Some(4));
        assert_eq!(lines.push('b', 7), Some(3), "from 3 and 1 to 2 each");
        assert_eq!(lines.push('b', 8), Some(8), "both lines are as long");
        assert_eq!(lines.push('c', 9).map(|lost| [2, 7].contains(&lost)), Some(true));
        assert_eq!(lines.push('c', 10), Some(10), "2, 1, and 1 are no shorter by two");
        assert_eq!(popped(&mut lines).len(), 4);
        assert_eq!(lines.push('a', 11), None);
    }
}

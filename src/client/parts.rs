//! Questions to the owners of all slots. The parts that they answer are merged into one answer.

use shards::command::Query;
use shards::outcome::{Outcome, Part};
use shards::slots::SlotSet;

use super::{Refused, view};
use crate::mesh::Mesh;

/// Asks all owners at once. If their parts do not cover every slot exactly once, a slot has moved
/// from one owner to another meanwhile; then it asks all of them once more.
pub(super) async fn ask_all(mesh: &Mesh, query: &Query) -> Result<Vec<Outcome>, Refused> {
    for _ in 0..2 {
        let mut parts = Vec::new();
        for call in mesh.call_all(query)? {
            let outcome = call.await.map_err(Refused::Rejected)?;
            parts.push(*view!(Outcome::Part, outcome));
        }
        if let Some(outcomes) = merged(parts) {
            return Ok(outcomes);
        }
    }
    Err(Refused::Overloaded)
}

/// The outcomes of parts that cover every slot exactly once; `None` if a slot is missing or covered
/// twice.
fn merged(parts: Vec<Part>) -> Option<Vec<Outcome>> {
    let mut covered = SlotSet::default();
    for part in &parts {
        if !covered.is_disjoint(&part.slots) {
            return None;
        }
        covered = covered.union(&part.slots);
    }
    covered.is_full().then(|| parts.into_iter().map(|part| part.outcome).collect())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use shards::ids::Slot;
    use shards::outcome::Totals;
    use shards::slots::Owners;

    use super::*;
    use crate::mesh::{Inbox, MeshEnds, ShardRequest, mesh_ends};
    use crate::rt;
    use crate::rt::net::Sockets;
    use crate::rt::reactor::Reactor;

    /// A part for each of three owners, told apart by a count of events.
    fn parts() -> Vec<Part> {
        let owners = Owners::by_modulo(3);
        (0..3).map(|owner| Part { slots: owners.slots_of(owner), outcome: outcome(owner) }).collect()
    }

    fn outcome(events: usize) -> Outcome {
        Outcome::Totals(Totals { events: events as u64, ..Totals::default() })
    }

    fn without(slots: SlotSet, missing: Slot) -> SlotSet {
        slots.iter().filter(|&slot| slot != missing).collect()
    }

    #[test]
    fn parts_that_cover_every_slot_once_are_an_answer() {
        assert_eq!(merged(parts()), Some((0..3).map(outcome).collect()));
        let whole = Part { slots: SlotSet::all(), outcome: outcome(9) };
        assert_eq!(merged(vec![whole]), Some(vec![outcome(9)]));
    }

    #[test]
    fn a_missing_slot_is_no_answer() {
        assert_eq!(merged(Vec::new()), None);
        for missing in SlotSet::all().iter() {
            let mut parts = parts();
            for part in &mut parts {
                part.slots = without(part.slots, missing);
            }
            assert_eq!(merged(parts), None, "without slot {missing}");
        }
    }

    #[test]
    fn a_slot_that_is_answered_for_twice_is_no_answer() {
        for doubled in SlotSet::all().iter() {
            let mut parts = parts();
            for part in &mut parts {
                part.slots.insert(doubled);
            }
            assert_eq!(merged(parts), None, "slot {doubled} twice");
        }
        // One slot is covered twice and another one is missing, so that only their number is right.
        let mut parts = parts();
        parts[0].slots = without(parts[0].slots, Slot(0));
        parts[0].slots.insert(Slot(1));
        assert_eq!(merged(parts), None);
    }

    #[test]
    fn a_part_that_speaks_for_no_slot_adds_nothing_and_spoils_nothing() {
        let mut parts = parts();
        parts.push(Part { slots: SlotSet::default(), outcome: outcome(3) });
        assert_eq!(merged(parts).map(|outcomes| outcomes.len()), Some(4));
    }

    const CORES: usize = 2;

    /// A core whose shard answers every question for `slots`, with 1 event, and counts the questions.
    fn start(ends: MeshEnds, owners: Owners, slots: SlotSet, asked: Arc<AtomicUsize>) -> Rc<Mesh> {
        let waker = ends.waker.clone();
        let inbox = Rc::new(Inbox::default());
        let mesh = Mesh::new(ends, owners, Rc::clone(&inbox), CORES);
        let sockets = Sockets::new(&waker).expect("descriptors are left");
        let take_in = {
            let mesh = Rc::clone(&mesh);
            move || mesh.take_in(|_, notice| panic!("{notice:?}"))
        };
        Reactor::new(sockets, waker, take_in).start();
        let shard = Rc::clone(&mesh);
        let part = Part { slots, outcome: outcome(1) };
        rt::spawn(async move {
            loop {
                inbox.signal.wait().await;
                while let Some(ShardRequest { reply_to, .. }) = inbox.pop() {
                    asked.fetch_add(1, Ordering::SeqCst);
                    shard.reply(reply_to.expect("it was called"), Ok(Outcome::Part(Box::new(part.clone()))));
                }
            }
        });
        mesh
    }

    /// Asks from the first of two cores, each with its own table of owners. Returns the number of
    /// outcomes, and how often the second core was asked.
    fn ask_with(tables: [Owners; CORES]) -> (Result<usize, Refused>, usize) {
        let (asked, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (answer, answered) = std::sync::mpsc::channel();
        let ends = mesh_ends(CORES).expect("descriptors are left").into_iter().zip(tables).enumerate();
        let cores = ends.map(|(index, (ends, owners))| {
            let (asked, over, answer) = (Arc::clone(&asked), Arc::clone(&over), answer.clone());
            let asked = if index == 0 { Arc::default() } else { asked };
            rt::Executor::of_environment().start_core("test", move || async move {
                let slots = owners.slots_of(index);
                let mesh = start(ends, owners, slots, asked);
                if index == 0 {
                    let outcomes = ask_all(&mesh, &Query::Totals).await;
                    answer.send(outcomes.map(|outcomes| outcomes.len())).expect("it is waited for");
                    over.store(true, Ordering::SeqCst);
                }
                while !over.load(Ordering::SeqCst) {
                    rt::sleep(Duration::from_millis(1)).await;
                }
            })
        });
        let cores: Vec<rt::Core> = cores.map(|core| core.expect("a thread")).collect();
        cores.into_iter().for_each(|core| core.join().expect("the core ends without a panic"));
        (answered.recv().expect("the first core answered"), asked.load(Ordering::SeqCst))
    }

    #[test]
    fn owners_that_disagree_are_asked_once_more() {
        let [whole, halves] = [1, 2].map(Owners::by_modulo);
        assert_eq!(ask_with([halves.clone(), halves.clone()]), (Ok(2), 1));
        // The second core says that it owns nothing, so the slots that it was asked for are missing.
        assert_eq!(ask_with([halves, whole]), (Err(Refused::Overloaded), 2));
    }
}

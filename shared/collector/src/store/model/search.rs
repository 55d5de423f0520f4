//! The search: breadth first through every state of the model, so that what it finds is a shortest way to it.
//!
//! Of our own, because what matters most is that from every state there is a way on, in a world that goes round in circles:
//! that is no property of a single path, and checkers of paths do not ask it.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Action, BATCH, Message, Model, Request, Run, Step, World, bits};

/// A world, and the one before it.
type Found = (Rc<World>, Option<(usize, Action)>);

impl World {
    /// The same world, told in one way only: epochs and owners by what matters of them, invocations in an order.
    fn normalised(mut self, fenced: bool) -> Self {
        let (epoch, holder) = (self.epoch, self.owner);
        // What will be refused whenever it arrives, and nobody waits for.
        let stale = |request: &Request| matches!(request, Request::Commit(write) if write.epoch != epoch);
        let awaited: Vec<bool> = self.wire.iter().map(|message| self.waits(message).is_some()).collect();
        let mut awaited = awaited.into_iter();
        self.wire.retain(|message| awaited.next() == Some(true) || !(fenced && stale(&message.request)));
        let present = |other: &mut u8| *other = u8::from(*other == epoch);
        present(&mut self.epoch);
        for run in &mut self.runs {
            present(&mut run.epoch);
            if let Step::Waiting { request: Request::Commit(write), .. } = &mut run.step {
                present(&mut write.epoch);
            }
        }
        for message in &mut self.wire {
            if let Request::Commit(write) = &mut message.request {
                present(&mut write.epoch);
            }
        }
        self.runs.sort_by_key(|run| Run { owner: u8::from(run.owner == holder), ..*run });
        self.wire.sort_by_key(|message| Message { owner: u8::from(message.owner == holder), ..*message });
        // An owner of which nothing is left is nobody.
        let mut owners = Vec::from([0]);
        let known = self.runs.iter().map(|run| run.owner).chain(self.wire.iter().map(|message| message.owner));
        for owner in known {
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        let name = |owner: &mut u8| *owner = owners.iter().position(|other| other == owner).unwrap_or_default() as u8;
        name(&mut self.owner);
        self.runs.iter_mut().for_each(|run| name(&mut run.owner));
        self.wire.iter_mut().for_each(|message| name(&mut message.owner));
        self
    }
}

impl Model {
    /// The promise that this step breaks.
    fn broken(&self, before: &World, action: Action, after: &World) -> Option<&'static str> {
        let item = |world: &World| (world.cursor, world.lease, world.marks, world.dead);
        if let Action::Land { message: Message { request: Request::Commit(write), .. }, .. } = action
            && item(before) != item(after)
        {
            if write.epoch != before.epoch {
                return Some("a stale holder's write took effect");
            }
            if write.to.is_some() && write.from != before.cursor {
                return Some("an update was lost");
            }
        }
        if after.cursor < before.cursor || after.epoch < before.epoch {
            return Some("the checkpoint moved back");
        }
        if (bits(0, after.cursor) | after.marks) & !after.safe() != 0 {
            return Some("an event is lost");
        }
        if after.faults.overruns > self.scope.most.overruns {
            return Some("two hold the lease");
        }
        if after.repeated() > BATCH * after.faults.repeating() {
            return Some("more was repeated than was in flight");
        }
        None
    }

    /// Searches every state, nearest first.
    pub fn check(&self) -> Result<usize, (&'static str, String)> {
        let first = Rc::new(World::new());
        let mut found = HashMap::from([(first.clone(), 0)]);
        let mut worlds: Vec<Found> = vec![(first, None)];
        // Steps that are nobody's fault, backwards.
        let mut back: Vec<Vec<usize>> = vec![Vec::new()];
        let mut at = 0;
        while at < worlds.len() {
            let before: Rc<World> = worlds[at].0.clone();
            for (action, after) in self.next(&before) {
                if let Some(broken) = self.broken(&before, action, &after) {
                    return Err((broken, trace(&worlds, at) + &format!("{action:?}\n{after:?}")));
                }
                let harmless = after.faults == before.faults;
                let after = Rc::new(after.normalised(self.protocol.fenced && self.protocol.release_fenced));
                let index = *found.entry(after.clone()).or_insert_with(|| {
                    worlds.push((after, Some((at, action))));
                    back.push(Vec::new());
                    worlds.len() - 1
                });
                if harmless {
                    back[index].push(at);
                }
            }
            at += 1;
        }
        let mut ends: Vec<bool> = worlds.iter().map(|(world, _)| world.done()).collect();
        let mut open: Vec<usize> = (0..worlds.len()).filter(|index| ends[*index]).collect();
        while let Some(index) = open.pop() {
            for &before in &back[index] {
                if !std::mem::replace(&mut ends[before], true) {
                    open.push(before);
                }
            }
        }
        match ends.iter().position(|ends| !ends) {
            Some(stuck) => Err(("there is no way on", trace(&worlds, stuck))),
            None => Ok(worlds.len()),
        }
    }
}

/// How it came to `at`.
fn trace(worlds: &[Found], mut at: usize) -> String {
    let mut steps = Vec::new();
    while let Some((before, action)) = worlds[at].1 {
        steps.push(format!("{action:?}\n"));
        at = before;
    }
    steps.into_iter().rev().collect()
}

//! Working memory that plans of one process share: a network of a hundred plans runs them one at a time, and needs the memory of
//! the largest.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Scratch;
use crate::error::Result;

/// The workspace of all plans that are alive; it goes with the last of them.
static SHARED: Mutex<Weak<Workspace>> = Mutex::new(Weak::new());

/// Scratches that no plan runs in just now, in no order. One is there, large enough for every plan; where several threads run
/// plans at the same time, the first run of each of them adds one.
#[derive(Debug, Default)]
struct Workspace(Mutex<Vec<Scratch>>);

impl Workspace {
    /// Takes the largest scratch, or makes one.
    fn take(&self, len: usize) -> Result<Scratch> {
        let largest = {
            let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let largest = (0..idle.len()).max_by_key(|&i| idle[i].as_slice().len());
            largest.map(|i| idle.swap_remove(i))
        };
        match largest {
            Some(scratch) if scratch.as_slice().len() >= len => Ok(scratch),
            // The smaller one is freed before the larger one is asked for.
            smaller => {
                drop(smaller);
                Scratch::with_len(len)
            }
        }
    }

    fn give_back(&self, scratch: Scratch) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }
}

/// A plan with the memory that it runs in, which it shares with the other plans of the process.
#[derive(Debug)]
pub struct Planned<P> {
    plan: P,
    scratch_len: usize,
    workspace: Arc<Workspace>,
}

impl<P> Planned<P> {
    /// Sees to it that there is memory for `scratch_len` numbers, so that a run need not ask for it.
    pub(super) fn new(plan: P, scratch_len: usize) -> Result<Self> {
        let workspace = {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            shared.upgrade().unwrap_or_else(|| {
                let workspace = Arc::new(Workspace::default());
                *shared = Arc::downgrade(&workspace);
                workspace
            })
        };
        workspace.give_back(workspace.take(scratch_len)?);
        Ok(Planned { plan, scratch_len, workspace })
    }

    /// The plan.
    pub fn plan(&self) -> &P {
        &self.plan
    }

    pub(super) fn plan_mut(&mut self) -> &mut P {
        &mut self.plan
    }

    /// Lets `f` run the plan.
    pub(super) fn run(&self, f: impl FnOnce(&P, &mut Scratch) -> Result<()>) -> Result<()> {
        let mut scratch = self.workspace.take(self.scratch_len)?;
        let outcome = f(&self.plan, &mut scratch);
        self.workspace.give_back(scratch);
        outcome
    }

    /// [`Planned::run`], which may change the plan.
    pub(super) fn run_mut(&mut self, f: impl FnOnce(&mut P, &mut Scratch) -> Result<()>) -> Result<()> {
        let mut scratch = self.workspace.take(self.scratch_len)?;
        let outcome = f(&mut self.plan, &mut scratch);
        self.workspace.give_back(scratch);
        outcome
    }
}

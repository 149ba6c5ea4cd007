//! The work limit for computing a delta.

/// The number of steps left. One step is roughly the cost of comparing two small items or reading a few bytes.
#[derive(Clone, Debug)]
pub struct Budget {
    left: usize,
}

/// The step budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work takes more steps than are allowed")]
pub struct Exhausted;

/// Takes some tens of milliseconds at worst on a slow core, which is how long a client may wait for a delta.
const MAX_STEPS: usize = 2_000_000;

/// The number of bytes read or compared in one step.
const BYTES: usize = 32;

impl Default for Budget {
    fn default() -> Self {
        Self::new(MAX_STEPS)
    }
}

impl Budget {
    /// Creates a budget of `steps` steps.
    pub fn new(steps: usize) -> Self {
        Self { left: steps }
    }

    /// Spends `steps`.
    ///
    /// # Errors
    /// Returns [`Exhausted`] if fewer steps are left, and sets the budget to zero.
    pub fn spend(&mut self, steps: usize) -> Result<(), Exhausted> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Exhausted)
            }
        }
    }

    /// Spends the number of steps that reading `bytes` bytes costs.
    ///
    /// # Errors
    /// As [`Budget::spend`].
    pub fn read(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.spend(bytes / BYTES + 1)
    }

    /// Returns the number of steps left.
    pub fn left(&self) -> usize {
        self.left
    }
}

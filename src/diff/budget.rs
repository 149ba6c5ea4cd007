//! How much work a delta is worth.

/// Steps that may still be taken. A step is about as much as comparing two small things, or reading a few bytes.
#[derive(Clone, Debug)]
pub struct Budget {
    left: usize,
}

/// All steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work takes more steps than are allowed")]
pub struct Exhausted;

/// Some tens of milliseconds, at worst, on a slow core: what a client that waits for a delta may lose by waiting.
const MAX_STEPS: usize = 2_000_000;

/// How many bytes are read or compared in a step.
const BYTES: usize = 32;

impl Default for Budget {
    fn default() -> Self {
        Self::new(MAX_STEPS)
    }
}

impl Budget {
    /// So many steps.
    pub fn new(steps: usize) -> Self {
        Self { left: steps }
    }

    /// Takes `steps`.
    ///
    /// # Errors
    /// If there are not so many left; then none are.
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

    /// Takes as many steps as reading `bytes` does.
    ///
    /// # Errors
    /// As [`Budget::spend`].
    pub fn read(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.spend(bytes / BYTES + 1)
    }

    /// Steps that are left.
    pub fn left(&self) -> usize {
        self.left
    }
}

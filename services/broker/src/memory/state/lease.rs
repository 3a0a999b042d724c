//! Who owns something.

use crate::{FencingToken, Incarnation, Life};

/// A lease and the last token given with it.
#[derive(Clone, Debug, Default)]
pub(in crate::memory) struct Lease {
    token: u64,
    held: Option<Held>,
}

#[derive(Clone, Debug)]
struct Held {
    #[allow(dead_code)] // who it is shows in a state's debug print, where a failed schedule is read
    owner: Incarnation,
    until: u64,
}

impl Lease {
    /// Gives it away, unless somebody has it.
    pub(in crate::memory) fn acquire(
        &mut self,
        now: u64,
        life: &Life,
        owner: &Incarnation,
        lasts: u64,
    ) -> Option<FencingToken> {
        if self.held_at(now) {
            return None;
        }
        // A failover may forget the last grants. What it gives then must not be one of the forgotten: so a token
        // holds the time and the life it was given in, besides being greater than the last.
        let mark = u64::from(crc16::State::<crc16::XMODEM>::calculate(life.0.as_bytes()));
        self.token = now.max((self.token >> 16) + 1) << 16 | mark;
        self.held = Some(Held {
            owner: owner.clone(),
            until: now.saturating_add(lasts),
        });
        Some(FencingToken(self.token))
    }

    /// Whether this token is its owner's.
    pub(in crate::memory) fn is_of(&self, now: u64, token: FencingToken) -> bool {
        self.token == token.0 && self.held_at(now)
    }

    pub(in crate::memory) fn renew(&mut self, now: u64, token: FencingToken, lasts: u64) -> bool {
        let mine = self.is_of(now, token);
        if mine && let Some(held) = &mut self.held {
            held.until = now.saturating_add(lasts);
        }
        mine
    }

    pub(in crate::memory) fn release(&mut self, token: FencingToken) {
        if self.token == token.0 {
            self.held = None;
        }
    }

    fn held_at(&self, now: u64) -> bool {
        self.held.as_ref().is_some_and(|held| now < held.until)
    }
}

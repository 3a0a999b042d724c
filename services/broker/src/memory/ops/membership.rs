//! Who is alive, and what the others know of each.
//!
//! A process' life (and channel) lies on its own server, the index of processes on the first. Where an index names a
//! process whose life is over, [`forget`] cleans it up.

use std::time::Duration;

use crate::{
    Incarnation, Member, ProcessState, Result, ServiceKind, membership,
    memory::state::{Admission, OVERHEAD, ServerState, milliseconds},
};

/// On the process' own server: it lives from now on. A gateway gets its channel.
pub fn start_life(state: &mut ServerState, now: u64, member: &Member, alive_for: Duration) -> Result<()> {
    state.admit(OVERHEAD, Admission::Drain)?;
    let until = now.saturating_add(milliseconds(alive_for));
    state.alive.insert(member.incarnation.clone(), until);
    if member.kind == membership::ServiceKind::Gateway {
        super::channels::make_channel(state, &member.incarnation);
    }
    Ok(())
}

/// On the process' own server: prolongs a life that is not over.
pub fn renew(state: &mut ServerState, now: u64, incarnation: &Incarnation, alive_for: Duration) -> bool {
    let alive = is_alive(state, now, incarnation);
    if alive {
        let until = now.saturating_add(milliseconds(alive_for));
        state.alive.insert(incarnation.clone(), until);
    } else {
        end_life(state, incarnation);
    }
    alive
}

/// On the process' own server: whether it lives.
pub fn is_alive(state: &ServerState, now: u64, incarnation: &Incarnation) -> bool {
    state.alive.get(incarnation).is_some_and(|until| now < *until)
}

/// On the process' own server: its life is over, and its channel goes.
pub fn end_life(state: &mut ServerState, incarnation: &Incarnation) {
    state.alive.remove(incarnation);
    state.channels.remove(incarnation);
}

/// On the process' own server: it left in order, or lives on as another incarnation.
pub fn leave_in_order(state: &mut ServerState, now: u64, incarnation: &Incarnation) {
    state.left.retain(|_, until| now < *until);
    let until = now.saturating_add(milliseconds(membership::LEFT_FOR));
    state.left.insert(incarnation.clone(), until);
}

/// On the process' own server: how it is.
pub fn state_of(state: &ServerState, now: u64, incarnation: &Incarnation) -> ProcessState {
    if is_alive(state, now, incarnation) {
        ProcessState::Alive
    } else if state.left.get(incarnation).is_some_and(|until| now < *until) {
        ProcessState::Left
    } else {
        ProcessState::Dead
    }
}

/// On the first server: what others see of a process.
pub fn list_member(state: &mut ServerState, member: &Member) -> Result<()> {
    state.admit(OVERHEAD, Admission::Drain)?;
    state.members.insert(member.incarnation.clone(), member.clone());
    Ok(())
}

/// On the first server: who is listed, of every kind.
pub fn all_listed(state: &ServerState) -> Vec<(ServiceKind, Incarnation)> {
    let members = state.members.values();
    members
        .map(|member| (member.kind, member.incarnation.clone()))
        .collect()
}

/// On the first server: the processes of a kind that were ever listed and not forgotten, ordered by incarnation.
pub fn listed(state: &ServerState, kind: ServiceKind) -> Vec<Member> {
    state
        .members
        .values()
        .filter(|member| member.kind == kind)
        .cloned()
        .collect()
}

/// On the first server: a process is over.
pub fn forget(state: &mut ServerState, incarnation: &Incarnation) {
    state.members.remove(incarnation);
}

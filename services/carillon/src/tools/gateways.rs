//! `carillon gateways`: the gateways that live, and how they are.

use std::process::ExitCode;

use carillon_broker::{Member, ServiceKind};
use serde_json::json;

use super::{
    Ended, ToolArguments,
    printer::{FAINT, Printer, row, styled, tell},
    run,
};
use crate::broker;

pub(crate) fn gateways(arguments: &ToolArguments) -> ExitCode {
    run("carillon gateways", arguments, |settings, printer| async move {
        let members = broker::redis(&settings)?.members(ServiceKind::Gateway).await?;
        show(&members, printer)?;
        Ok(Ended::Well)
    })
}

const WIDTHS: [usize; 6] = [40, 22, 16, 8, 9, 16];

fn show(members: &[Member], printer: Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        for member in members {
            printer.item(&json!(member), String::new)?;
        }
        return Ok(());
    }
    if members.is_empty() {
        tell("No gateway lives; is one started with this redis.url and redis.prefix?");
        return Ok(());
    }
    let titles = ["GATEWAY", "ADDRESS", "SESSIONS", "STATE", "VERSION", "POLICY"];
    super::printer::print(&(styled(FAINT, row(&WIDTHS, &titles)) + "\n"))?;
    for member in members {
        let sessions = format!("{} of {}", member.sessions, member.capacity);
        let state = if member.draining { "draining" } else { "serving" };
        let cells = [
            member.incarnation.as_str(),
            &member.address,
            &sessions,
            state,
            &member.version,
            &member.policy_revision,
        ];
        printer.item(&(), || row(&WIDTHS, &cells))?;
    }
    Ok(())
}

//! Runs cases one after the other and counts.

use std::{any::Any, time::Duration};

use futures::future::BoxFuture;

use super::{Capability, Subject, stage::Stage};

/// No case takes longer than this, slow machines included.
const CASE_TIMEOUT: Duration = Duration::from_secs(120);

/// One promise, and how to test it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What is promised.
    pub name: &'static str,
    /// What must be possible from outside to test it.
    pub needs: &'static [Capability],
    pub(super) run: fn(Stage) -> BoxFuture<'static, ()>,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was run.
    pub subject: String,
    /// The cases that hold.
    pub passed: Vec<&'static str>,
    /// The cases that do not, and why.
    pub failed: Vec<(&'static str, String)>,
    /// The cases that were not run, and the first capability that is missing.
    pub skipped: Vec<(&'static str, Capability)>,
}

/// Runs each case on an installation of its own.
pub async fn run(subject: &dyn Subject, cases: &[Case]) -> Report {
    let capabilities = subject.capabilities();
    let mut report = Report {
        subject: subject.name(),
        ..Report::default()
    };
    for case in cases {
        if let Some(missing) = case.needs.iter().find(|needed| !capabilities.contains(needed)) {
            report.skipped.push((case.name, *missing));
            continue;
        }
        let stage = Stage::new(subject.install().await).await;
        let installation = stage.installation.clone();
        let running = tokio::spawn((case.run)(stage));
        let abort = running.abort_handle();
        match tokio::time::timeout(CASE_TIMEOUT, running).await {
            Ok(Ok(())) => report.passed.push(case.name),
            Ok(Err(error)) => report.failed.push((case.name, reason(error))),
            Err(_) => {
                abort.abort();
                report
                    .failed
                    .push((case.name, format!("not done after {CASE_TIMEOUT:?}")));
            }
        }
        installation.remove().await;
    }
    println!("{report}");
    report
}

fn reason(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "cancelled".to_owned();
    };
    let panic: &dyn Any = &*panic;
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panicked".to_owned())
}

impl Report {
    /// Panics unless every case held, exactly so many were run, and exactly these were skipped.
    pub fn assert(&self, run: usize, skipped: &[&str]) {
        assert!(self.failed.is_empty(), "{self}");
        assert_eq!(self.passed.len(), run, "the number of cases run changed: {self}");
        let mut names: Vec<&str> = self.skipped.iter().map(|(name, _)| *name).collect();
        let mut expected = skipped.to_vec();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected, "the cases skipped changed: {self}");
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            formatter,
            "{}: {} cases run, {} failed, {} skipped",
            self.subject,
            self.passed.len() + self.failed.len(),
            self.failed.len(),
            self.skipped.len()
        )?;
        for (name, why) in &self.failed {
            writeln!(formatter, "  FAILED {name}: {why}")?;
        }
        for (name, missing) in &self.skipped {
            writeln!(formatter, "  skipped {name}: needs {missing:?}")?;
        }
        Ok(())
    }
}

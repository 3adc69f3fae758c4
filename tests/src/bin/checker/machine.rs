//! The result for programs: JSON, and JUnit's XML.

use crate::Findings;
use crate::report::{Outcome, Report};
use anyhow::{Result, anyhow};
use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};
use replayer::guide::Guide;
use replayer::judge::Fault;
use serde_json::{Value, json};

pub fn to_json(findings: &Findings, guide: &Guide) -> Value {
    let steps: Vec<Value> = findings
        .reports
        .iter()
        .map(|report| {
            json!({
                "step": report.step,
                "passed": report.passed(),
                "played": report.outcomes.len() - report.left_out(),
                "sessions": report.outcomes.len(),
            })
        })
        .collect();
    let next = findings.next();
    let failures: Vec<Value> = next
        .iter()
        .flat_map(|report| &report.outcomes)
        .filter_map(|(session, outcome)| match outcome {
            Outcome::Passed => None,
            Outcome::LeftOut(why) => {
                Some(json!({ "session": session.name, "left_out": why }))
            }
            Outcome::Failed(fault) => Some(json!({
                "session": session.name,
                "what": fault.what,
                "expected": fault.expected,
                "came": fault.came,
                "rules": guide.rules(&session.name),
            })),
        })
        .collect();
    let everywhere: Vec<&str> =
        findings.everywhere().map(|fault| fault.what.as_str()).collect();
    let first = match (everywhere.first(), next.and_then(Report::first)) {
        (Some(what), _) => json!({ "session": null, "what": what }),
        (None, Some((session, fault))) => {
            json!({ "session": session.name, "title": session.title, "what": fault.what })
        }
        (None, None) => match next {
            Some(next) => json!({ "session": null, "what": next.why_left_out() }),
            None => Value::Null,
        },
    };
    let exercises: Vec<Value> = findings
        .exercises
        .iter()
        .map(|(goal, is_done)| json!({ "name": goal.name, "title": goal.title, "done": is_done }))
        .collect();
    json!({
        "passed": findings.is_done,
        "step": findings.reached().map(|report| report.step),
        "next": next.map(|report| report.step),
        "nearly": findings.reached().is_none() && next.is_some_and(Report::is_near),
        "conversations": next.map(|report| json!({
            "passed": report.passed(),
            "of": report.outcomes.len(),
        })),
        "first": first,
        "everywhere": everywhere,
        "seconds_for_an_answer": findings.slowness.map(|time| time.as_secs_f64()),
        "exercises": exercises,
        "steps": steps,
        "failures": failures,
    })
}

/// The result for a classroom's CI: a suite for each step, a test case for each session.
pub fn junit(findings: &Findings) -> Result<String> {
    let mut junit = Junit::new("how far");
    let whole: Vec<(&str, Option<&Fault>)> = match findings.everywhere().next() {
        None => vec![("all answers", None)],
        Some(_) => {
            findings.everywhere().map(|fault| ("all answers", Some(fault))).collect()
        }
    };
    let mut suite = TestSuite::new("server");
    for (name, fault) in whole {
        suite.add_test_case(TestCase::new(
            name,
            fault.map_or_else(TestCaseStatus::success, failed),
        ));
    }
    junit.add_test_suite(suite);
    for report in &findings.reports {
        let mut suite = TestSuite::new(report.step);
        for (session, outcome) in &report.outcomes {
            let status = match outcome {
                Outcome::Passed => TestCaseStatus::success(),
                Outcome::Failed(fault) => failed(fault),
                Outcome::LeftOut(why) => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(*why);
                    status
                }
            };
            suite.add_test_case(TestCase::new(session.name.clone(), status));
        }
        junit.add_test_suite(suite);
    }
    junit.to_string().map_err(|error| anyhow!("cannot write JUnit XML: {error}"))
}

/// The same when it cannot be checked.
pub fn junit_of_error(error: &str) -> Result<String> {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_message(error);
    let mut suite = TestSuite::new("server");
    suite.add_test_case(TestCase::new("can be checked", status));
    let mut junit = Junit::new("how far");
    junit.add_test_suite(suite);
    junit.to_string().map_err(|error| anyhow!("cannot write JUnit XML: {error}"))
}

fn failed(fault: &Fault) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(fault.what.clone());
    let (expected, came) = (&fault.expected, &fault.came);
    status.set_description(format!("expected: {expected}\ncame: {came}"));
    status
}

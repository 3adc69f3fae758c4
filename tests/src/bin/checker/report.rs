//! What the conversations have shown of a step, and which step a server comes closest to.

use crate::player::{Player, Shown};
use replayer::guide::Guide;
use replayer::judge::{Fault, Verdict};
use replayer::session::Session;

/// How many answers there must be before one speaks of all.
const MIN_ANSWERS: usize = 5;

/// What a conversation with a step has shown.
#[derive(Clone)]
pub enum Outcome {
    Passed,
    Failed(Fault),
    LeftOut(&'static str),
}

/// What a step's sessions have shown, in the order in which its chapter comes to them.
pub struct Report<'a> {
    pub step: &'a str,
    pub outcomes: Vec<(&'a Session, Outcome)>,
    /// What is wrong with nearly all answers alike: told once, and held against no conversation.
    pub everywhere: Vec<Fault>,
    /// How many conversations would be as they should, if the form of answers were right.
    pub close: usize,
    /// In how many answers the first of these is, and how many there were.
    pub count: (usize, usize),
    /// A conversation that has the first of these.
    pub example: Option<&'a Session>,
}

impl<'a> Report<'a> {
    /// Judges all that was played for a step.
    pub fn new(
        step: &'a str,
        sessions: &[&'a Session],
        player: &Player,
        guide: &Guide,
    ) -> Report<'a> {
        let mut sessions = sessions.to_vec();
        sessions.sort_by_key(|session| guide.order(step, &session.name));
        let shown: Vec<(&Session, Shown)> = sessions
            .iter()
            .map(|session| (*session, player.shown(session, step)))
            .collect();
        let verdicts: Vec<&Verdict> = shown
            .iter()
            .filter_map(|(_, shown)| match shown {
                Shown::Verdict(verdict) if verdict.has_answer => Some(verdict),
                _ => None,
            })
            .collect();
        let mut everywhere: Vec<(usize, Fault)> = Vec::new();
        for fault in verdicts.iter().flat_map(|verdict| &verdict.form) {
            let has = |verdict: &&&Verdict| {
                verdict.form.iter().any(|other| other.kind == fault.kind)
            };
            let count = verdicts.iter().filter(has).count();
            let is_known = everywhere.iter().any(|(_, known)| known.kind == fault.kind);
            if !is_known && count >= MIN_ANSWERS && count * 3 >= verdicts.len() {
                everywhere.push((count, fault.clone()));
            }
        }
        let count = (everywhere.first().map_or(0, |(count, _)| *count), verdicts.len());
        let everywhere: Vec<Fault> =
            everywhere.into_iter().map(|(_, fault)| fault).collect();
        let is_close = |shown: &Shown| matches!(shown, Shown::Verdict(verdict) if verdict.fault.is_none());
        let close = shown.iter().filter(|(_, shown)| is_close(shown)).count();
        let has_first = |verdict: &Verdict| {
            let kind = everywhere.first().map(|fault| fault.kind);
            verdict.form.iter().any(|fault| Some(fault.kind) == kind)
        };
        let example = shown.iter().find_map(|(session, shown)| match shown {
            Shown::Verdict(verdict) if has_first(verdict) => Some(*session),
            _ => None,
        });
        let is_own = |fault: &Fault| everywhere.iter().all(|all| all.kind != fault.kind);
        let outcomes = shown
            .into_iter()
            .map(|(session, shown)| {
                let outcome = match shown {
                    Shown::LeftOut(why) => Outcome::LeftOut(why),
                    Shown::Verdict(Verdict { fault, form, .. }) => {
                        let form = form.into_iter().find(is_own);
                        fault.or(form).map_or(Outcome::Passed, Outcome::Failed)
                    }
                };
                (session, outcome)
            })
            .collect();
        Report { step, outcomes, everywhere, close, count, example }
    }

    pub fn passed(&self) -> usize {
        let is_passed = |outcome: &Outcome| matches!(outcome, Outcome::Passed);
        self.outcomes.iter().filter(|(_, outcome)| is_passed(outcome)).count()
    }

    pub fn is_passed(&self) -> bool {
        self.passed() == self.outcomes.len() && self.everywhere.is_empty()
    }

    pub fn left_out(&self) -> usize {
        let is_left_out = |outcome: &Outcome| matches!(outcome, Outcome::LeftOut(_));
        self.outcomes.iter().filter(|(_, outcome)| is_left_out(outcome)).count()
    }

    /// Why what was not played was not, for the first of them.
    pub fn why_left_out(&self) -> &'static str {
        let mut outcomes = self.outcomes.iter();
        let found = outcomes.find_map(|(_, outcome)| match outcome {
            Outcome::LeftOut(why) => Some(*why),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// The first that fails.
    pub fn first(&self) -> Option<(&'a Session, &Fault)> {
        self.outcomes.iter().find_map(|(session, outcome)| match outcome {
            Outcome::Failed(fault) => Some((*session, fault)),
            _ => None,
        })
    }

    /// Whether hardly anything is missing.
    pub fn is_near(&self) -> bool {
        self.passed() * 10 >= self.outcomes.len() * 9
    }

    /// Puts what explains the others first, and then tells from the beginning of the book on.
    pub fn sort_by_book(&mut self, guide: &Guide) {
        let step = self.step;
        self.outcomes.sort_by_key(|(session, outcome)| {
            let is_early = matches!(outcome, Outcome::Failed(fault)
                if fault.expected == "(silence)" && !fault.came.starts_with('('));
            (!is_early, guide.order(step, &session.name).1)
        });
    }
}

/// The step that a server comes closest to: the one of whose conversations it has most. Of several
/// alike it is the last for one that has nearly all of them, and the first for a beginner.
pub fn closest(reports: &[Report]) -> Option<usize> {
    let most = reports.iter().map(|report| report.close).max()?;
    let mut all = (0..reports.len()).filter(|&index| reports[index].close == most);
    let first = all.clone().next()?;
    if most * 2 > reports[first].outcomes.len() { all.next_back() } else { Some(first) }
}

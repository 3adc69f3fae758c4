//! The goal of each exercise is missed before it, and met by its solution, which leaves the
//! step's own sessions as they are.

mod variants;

use replayer::exercise::{Exercise, read_all};
use replayer::replay::{Typing, play};
use replayer::server::{Server, Step, build, root, step_names};
use replayer::session;
use std::error::Error;
use std::sync::Mutex;
use std::{fs, thread};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn solve(exercise: &Exercise) -> Result<Step> {
    let source = root().join(format!("steps/{}/src/main.rs", exercise.step));
    let patch = fs::read_to_string(&exercise.patch)?;
    let patch = diffy::Patch::from_str(&patch)?;
    let solution = diffy::apply(&fs::read_to_string(source)?, &patch)?;
    let name = format!("exercise-{}", exercise.goal.name);
    let (binary, said) = variants::build(&name, &solution)?;
    assert_eq!(said, "", "{name} compiles with warnings");
    Ok(Step { name: exercise.step.clone(), binary })
}

/// Plays a session to a server of its own.
fn play_to(step: &Step, session: &session::Session) -> std::result::Result<(), String> {
    let server = Server::start(step, "").map_err(|error| error.to_string())?;
    play(server.address, &session.lines(&step.name), Typing::AtOnce)
}

/// Checks one exercise: its goal is missed before it, and its solution breaks no session.
fn check(exercise: &Exercise, steps: &[Step], sessions: &[session::Session]) -> Result {
    let step = steps.iter().find(|step| step.name == exercise.step).ok_or("no step")?;
    if play_to(step, &exercise.goal).is_ok() {
        return Err("is met before it is done".into());
    }
    let solution = solve(exercise)?;
    play_to(&solution, &exercise.goal)?;
    let todo = Mutex::new(sessions.iter());
    let reports = Mutex::new(String::new());
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(session) = todo.lock().ok().and_then(|mut all| all.next())
                {
                    if let (Err(report), Ok(mut reports)) =
                        (play_to(&solution, session), reports.lock())
                    {
                        *reports += &format!("breaks {}:\n{report}\n", session.name);
                    }
                }
            });
        }
    });
    let reports = reports.into_inner()?;
    if reports.is_empty() { Ok(()) } else { Err(reports.into()) }
}

#[test]
fn solutions_meet_their_goals_and_keep_the_sessions() -> Result {
    let names = step_names(&root())?;
    let steps = build()?;
    let sessions = session::read_all(&root().join("tests/sessions"), &names)?;
    let exercises = read_all(&root().join("tests/exercises"), &names)?;
    assert!(!exercises.is_empty());
    let faults = Mutex::new(String::new());
    thread::scope(|scope| {
        for exercise in &exercises {
            scope.spawn(|| {
                if let (Err(fault), Ok(mut faults)) =
                    (check(exercise, &steps, &sessions), faults.lock())
                {
                    *faults += &format!("{}: {fault}\n", exercise.goal.name);
                }
            });
        }
    });
    let faults = faults.into_inner()?;
    assert!(faults.is_empty(), "{faults}");
    Ok(())
}

#[test]
fn each_goal_and_each_session_has_two_hints() -> Result {
    let names = step_names(&root())?;
    let last = names.last().ok_or("no steps")?;
    let mut sessions = session::read_all(&root().join("tests/sessions"), &names)?;
    let exercises = read_all(&root().join("tests/exercises"), &names)?;
    sessions.extend(exercises.into_iter().map(|exercise| exercise.goal));
    for session in sessions {
        assert_eq!(session.hints(last).len(), 2, "{}", session.name);
    }
    Ok(())
}

//! Killed and started again it answers everything once, and nothing that is old.

use std::fs;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::support::{WIDE, World, script};

#[tokio::test]
async fn what_came_while_it_was_away_is_answered_and_what_is_old_is_not() {
    let world = World::new().await;
    world.configure("max_age = '7s'", WIDE);
    // Before it ever was there.
    let before = world.say("!help").await;
    let bot = world.start().await;
    let first = world.say("!help").await;
    world.answer(first).await;
    bot.kill().await;

    let old = world.say("!help").await;
    sleep(Duration::from_millis(7100)).await;
    let young = world.say("!help").await;
    let bot = world.start().await;
    world.answer(young).await;
    let (code, log) = bot.terminate().await;
    assert_eq!(code, Some(0), "{log}");

    // And after a clean end.
    let meanwhile = world.say("!help").await;
    let bot = world.start().await;
    world.answer(meanwhile).await;
    world.ask("!help").await;
    let said = world.said().await;
    for seq in [before, old] {
        assert!(said.iter().all(|(to, _)| *to != seq), "{seq}: {said:?}");
    }
    assert_eq!(said.len(), 4, "{said:?}");
    bot.kill().await;
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_program_that_was_begun_is_not_run_again() {
    let world = World::new().await;
    let noted = world.path("noted");
    let body = format!("echo ran >> {}; exec sleep 2", noted.display());
    world.configure("", &script("work", &body, ""));
    let bot = world.start().await;
    let seq = world.say("!work").await;
    let begun = async {
        while !noted.exists() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(stack_testkit::PATIENCE, begun).await.unwrap();
    bot.kill().await;
    let bot = world.start().await;
    let answer = world.answer(seq).await;
    assert!(answer.contains("I do not run it again"), "{answer}");
    assert_eq!(fs::read_to_string(&noted).unwrap(), "ran\n");
    bot.kill().await;
    world.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_answers_each_command_once() {
    const KILLS: usize = 12;
    const EACH: usize = 10;
    let world = World::new().await;
    let count = world.path("count");
    let body = format!("echo $1 >> {}; echo answer $1", count.display());
    let echo = script("echo", &body, "max_args = 1\nat_once = 4");
    world.configure("max_age = '10m'", &[WIDE, &echo].concat());
    world.start().await.kill().await;
    let mut asked = Vec::new();
    for round in 0..KILLS {
        let mut bot = world.spawn(&[]);
        for index in 0..EACH {
            let number = round * EACH + index;
            let command = if number.is_multiple_of(3) {
                "!help".to_owned()
            } else {
                format!("!echo {number}")
            };
            asked.push((number, world.say(&command).await));
        }
        if round % 2 == 0 {
            bot.says("reads general").await;
        }
        let wait = (round as u64 * 37) % 120;
        sleep(Duration::from_millis(wait)).await;
        bot.kill().await;
    }
    let bot = world.start().await;
    let mut answered = 0;
    for (number, seq) in asked {
        let answer = world.answer(seq).await;
        if number.is_multiple_of(3) {
            assert!(answer.contains("!remind"), "{number}: {answer}");
        } else if answer == format!("answer {number}") {
            answered += 1;
        } else {
            assert!(
                answer.contains("I do not run it again"),
                "{number}: {answer}"
            );
        }
    }
    // Not each was interrupted, and none ran twice.
    assert!(answered > KILLS * EACH / 3, "{answered}");
    let ran = fs::read_to_string(&count).unwrap();
    let mut ran: Vec<&str> = ran.lines().collect();
    let all = ran.len();
    ran.sort_unstable();
    ran.dedup();
    assert_eq!(ran.len(), all);
    assert!(all >= answered);
    println!(
        "{answered} of {} programs answered in one go",
        KILLS * EACH * 2 / 3
    );
    let (code, log) = bot.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    world.gateway.shutdown().await;
}

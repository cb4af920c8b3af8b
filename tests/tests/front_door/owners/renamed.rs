//! An agent that gets another name: what it reads is its new name's, what it has stays its former name's.

use super::*;

/// Red when a renamed agent goes on with a credential for its new name alone, or needs more than a token for both.
#[tokio::test]
async fn an_agent_that_was_renamed_delivers_its_old_readings_with_a_credential_for_both_names() {
    let mut site = Site::new().await;
    let (former, new) = (site.token("press-7"), site.token("press-8"));
    let settings = [
        ("SINK_TOKEN_FILE", text(&former)),
        ("SAMPLE_INTERVAL", "10ms"),
        ("BATCH_MAX_READINGS", "1"),
    ];
    let mut agent = site.agent(site.place.path(), "press-7", &settings).await;
    wait_own(&agent, "acked", 20).await;
    let stream = first_stream(&agent).await;
    site.sink.kill();
    wait_own(&agent, "spooled", 100).await;
    let produced = own(&agent, "produced").await;
    agent.kill();
    site.sink.restart().await;

    agent.set("NAME", "press-8");
    agent.set("SINK_TOKEN_FILE", text(&new));
    agent.restart().await;
    says(&agent, &format!("stream {stream} belongs to agent")).await;
    // Its own goes on, and of the other nothing is lost.
    let acked = own(&agent, "acked").await;
    wait_own(&agent, "acked", acked + 20).await;
    assert_eq!(own(&agent, "dropped_total").await, 0);
    let waiting = held(&agent, &stream).await.expect("it keeps it");
    assert!(waiting["spooled"].as_u64() >= Some(80), "{waiting}");
    let both = site.sink.token("--role agent --agent-pattern press-*");
    std::fs::write(&new, both).expect("written");
    until("the old stream is delivered", LIMIT, || async {
        held(&agent, &stream).await.is_none().then_some(())
    })
    .await;
    assert!(agent.terminate().await.success());
    let line = site.line(&stream);
    assert_eq!(
        (&line["closed"], &line["spooled"]),
        (&true.into(), &0.into())
    );
    assert_eq!(line["agent"], "press-7", "it is shown as another's");
    let all = line["produced"].as_u64().expect("a count");
    assert!(all >= produced && line["stored"] == all, "{line}");
    // They stay what they were when they were read.
    assert_counted(&site.readings("press-7", u64::from(u32::MAX)).await, all);
}

/// Renamed where the oldest goes first: what it reads now, and what it read under its new name before, is delivered although the
/// stream of the old name waits; the expected sets are the agents' own records.
///
/// Mutations: a lane that waits for its oldest stream (`pass_over` that sleeps until it is asked again); a sink that does not say
/// that it speaks of one stream.
#[tokio::test]
async fn in_order_the_streams_of_another_name_wait_and_the_others_go_on() {
    let mut site = Site::new().await;
    let (former, new) = (site.token("press-7"), site.token("press-8"));
    let settings = [
        ("SINK_TOKEN_FILE", text(&former)),
        ("SAMPLE_INTERVAL", "10ms"),
        ("BATCH_MAX_READINGS", "5"),
        ("DELIVERY_ORDER", "oldest_first"),
    ];
    let mut agent = site.agent(site.place.path(), "press-7", &settings).await;
    wait_own(&agent, "acked", 20).await;
    let old = first_stream(&agent).await;
    site.sink.kill();
    wait_own(&agent, "spooled", 50).await;
    agent.kill();
    // A second stream waits behind it, already of the new name.
    agent.set("NAME", "press-8");
    agent.set("SINK_TOKEN_FILE", text(&new));
    agent.restart().await;
    let behind = held_besides(&agent, &old).await;
    until("the one behind it holds some", LIMIT, || async {
        let line = held(&agent, &behind).await?;
        (line["spooled"].as_u64() >= Some(50)).then_some(())
    })
    .await;
    agent.kill();
    site.sink.restart().await;
    agent.restart().await;

    says(&agent, &format!("stream {old} belongs to agent")).await;
    until("the one behind it is delivered", LIMIT, || async {
        held(&agent, &behind).await.is_none().then_some(())
    })
    .await;
    let acked = own(&agent, "acked").await;
    wait_own(&agent, "acked", acked + 50).await;
    says_what_waits(&agent, &old).await;

    let both = site.sink.token("--role agent --agent-pattern press-*");
    std::fs::write(&new, both).expect("written");
    until("the old stream is delivered", LIMIT, || async {
        held(&agent, &old).await.is_none().then_some(())
    })
    .await;
    until("nothing waits", LIMIT, || async {
        let status = agent.status().await;
        let waiting = status["sink"]["waiting"].as_array().cloned();
        waiting
            .is_some_and(|waiting| waiting.is_empty())
            .then_some(())
    })
    .await;
    assert!(agent.terminate().await.success());
    each_reading_once(&site, (&old, "press-7"), (&behind, "press-8")).await;
}

/// Nothing of it is lost, and status tells how many, why and what to do.
async fn says_what_waits(agent: &Agent, old: &str) {
    let waiting = held(agent, old).await.expect("it keeps it");
    assert!(waiting["spooled"].as_u64() > Some(0), "{waiting}");
    assert_eq!(own(agent, "dropped_total").await, 0);
    let told = format!("stream {old} belongs to agent");
    let status = agent.status().await;
    assert_eq!(status["sink"]["connected"], true, "{status}");
    assert_eq!(status["sink"]["waiting"][0]["reason"], "foreign");
    assert_eq!(status["sink"]["waiting"][0]["streams"], 1);
    let said = agent.command(&["status"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    for words in [
        "1 stream waits for a credential",
        "others go on",
        &told,
        "weir-sink token create",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// Each run begins to count anew: every number of the first two, and of a third one under the later name.
async fn each_reading_once(site: &Site, (old, former): (&str, &str), (behind, name): (&str, &str)) {
    let lines = site.ledger();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for line in &lines {
        assert_eq!(
            (&line["closed"], &line["spooled"]),
            (&true.into(), &0.into())
        );
        assert_eq!(line["stored"], line["produced"], "{line}");
    }
    let all = u64::from(u32::MAX);
    let produced = |id: &str| site.line(id)["produced"].as_u64().expect("a count");
    assert_counted(&site.readings(former, all).await, produced(old));
    let mut renamed = site.readings(name, all).await;
    let later = renamed.split_off(usize::try_from(produced(behind)).expect("it fits"));
    assert_counted(&renamed, produced(behind));
    let live = lines
        .iter()
        .map(|line| line["stream_id"].as_str().expect("an id"));
    let live = live
        .filter(|id| *id != old && *id != behind)
        .collect::<Vec<_>>();
    assert_counted(&later, produced(live[0]));
}

/// The one stream that it has beside this one.
async fn held_besides(agent: &Agent, stream: &str) -> String {
    let status = agent.status().await;
    let streams = status["streams"].as_array().expect("streams").clone();
    let others = streams
        .iter()
        .map(|line| line["stream_id"].as_str().expect("an id").to_owned());
    let others: Vec<String> = others.filter(|id| id != stream).collect();
    assert_eq!(others.len(), 1, "{status}");
    others[0].clone()
}

//! Everything that Mimecast holds arrives at Devo once, byte for byte, on both APIs.

use chrono::TimeDelta;
use simulator::data;

use crate::world::{Api, SOURCES, World, now, together};

async fn all_sources_arrive(api: Api) {
    let mut world = World::new(api).await;
    let expected = data::lively(&world.mimecast, 7, now(), 2);
    assert_eq!(expected.len(), 19, "nineteen tables are fed");
    let on_request = world.fill_on_request(7, TimeDelta::hours(20), 80);
    assert_eq!(on_request.len(), if api == Api::V1 { 3 } else { 6 });
    let expected = together([expected, on_request]);
    for source in world.sources() {
        let answer = world.run(source).await;
        assert_eq!(answer["status"], "caught_up", "{answer}");
        assert_eq!(answer["source"], source);
        assert_eq!(answer["tenant"], "default");
        assert_eq!(answer["rejected"], 0, "{answer}");
    }
    world.assert_delivered(&expected);
    world.assert_no_secret_printed();
}

#[tokio::test]
async fn all_sources_arrive_by_api_1() {
    all_sources_arrive(Api::V1).await;
}

#[tokio::test]
async fn all_sources_arrive_by_api_2() {
    all_sources_arrive(Api::V2).await;
}

#[tokio::test]
async fn the_stix_form_of_the_feeds_arrives() {
    let mut world = World::new(Api::V2).await;
    let expected = data::lively(&world.mimecast, 8, now(), 1);
    world.set("THREATFEED_FORMAT", "stix");
    world.run("threatfeed").await;
    let lines = data::stix(&expected[data::FEED_TABLE]);
    world.assert_delivered(&[(data::FEED_TABLE.to_owned(), lines)].into());
}

#[tokio::test]
async fn another_tag_and_host_are_used() {
    let mut world = World::new(Api::V2).await;
    let mut expected = data::lively(&world.mimecast, 9, now(), 1);
    world.set("DEVO_TAG", "my.app").set("DEVO_HOST", "host-1");
    world.run("url").await;
    let lines = expected.remove("mail.mimecast.ttp.url").unwrap();
    world.assert_delivered(&[("my.app.ttp.url".to_owned(), lines)].into());
    assert!(world.devo.requests().iter().all(|request| request.host == "host-1"));
}

#[tokio::test]
async fn small_pages_give_the_same() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        let on_request = world.fill_on_request(10, TimeDelta::hours(20), 40);
        let expected = together([data::lively(&world.mimecast, 10, now(), 1), on_request]);
        world.set("PAGE_SIZE", "3");
        for source in world.sources() {
            world.run(source).await;
        }
        world.assert_delivered(&expected);
    }
}

/// Real events, where they are at hand: not part of this repository.
#[tokio::test]
async fn captured_events_arrive() {
    let Some(samples) = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|above| above.join("shared/samples"))
        .find(|samples| samples.is_dir())
    else {
        return println!("skipped: no captured events beside this project");
    };
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        let expected =
            data::captured(&world.mimecast, &samples, now() - TimeDelta::hours(20), now() - TimeDelta::minutes(2))
                .unwrap();
        assert!(expected.values().map(Vec::len).sum::<usize>() > 20);
        // The captured feed is a STIX bundle.
        world.set("THREATFEED_FORMAT", "stix");
        for source in SOURCES {
            world.run(source).await;
        }
        world.assert_delivered(&expected);
    }
}

//! `reset`, `tail` and `dead-letters delete`: what they say, what they change, and that nothing else moves.

use crate::world::{URL, World, ago, row, said};

const BAD: &[u8] = br#"{"n":}"#;

impl World {
    /// Three rows of different ages, and one that cannot be read, all collected.
    pub async fn collected() -> (World, Vec<String>) {
        let mut world = World::new().await;
        world.settings.insert("INITIAL_LOOKBACK".to_owned(), "7d".to_owned());
        let rows: Vec<String> = [3000, 2000, 30].iter().zip(1..).map(|(age, n)| row(n, ago(*age))).collect();
        for (row, age) in rows.iter().zip([3000, 2000, 30]) {
            world.mimecast.push("url", ago(age), row.as_str());
        }
        world.mimecast.push("url", ago(40), BAD);
        world.once().await;
        assert_eq!(world.lines(), rows);
        (world, rows)
    }

    pub async fn once(&self) {
        let output = self.run(&["collect", "--once"]).await;
        assert!(output.status.success(), "{output:?}");
    }
}

#[tokio::test]
async fn a_reset_delivers_again_what_came_since_and_says_so_before() {
    let (world, rows) = World::collected().await;
    let to = ["reset", "url", "--to", "36h"];
    let dry = said(&world.run(&[&to[..], &["--dry-run"]].concat()).await);
    assert!(dry.contains("3 events would be delivered once more") && dry.contains("url (tenant default)"), "{dry}");
    // Nobody was asked, nothing happens.
    let output = world.run(&to).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("--yes"), "{text}");
    world.once().await;
    assert_eq!(world.lines(), rows);

    said(&world.run(&[&to[..], &["--yes"]].concat()).await);
    world.once().await;
    let mut expected = [rows.clone(), rows[1..].to_vec()].concat();
    expected.sort();
    assert_eq!(world.lines(), expected, "those of the last 36 hours once more");
    // And only once.
    world.once().await;
    assert_eq!(world.lines(), expected);

    // Without a time: as if it had never run.
    said(&world.run(&["reset", "url", "--yes"]).await);
    world.once().await;
    expected.extend(rows);
    expected.sort();
    assert_eq!(world.lines(), expected);
}

#[tokio::test]
async fn tail_prints_and_moves_nothing() {
    let (mut world, rows) = World::collected().await;
    let printed = |rows: &[String]| rows.iter().map(|row| format!("{URL}: {row}\n")).collect::<String>();
    let requests = world.devo.requests().len();
    assert_eq!(said(&world.run(&["tail", "url"]).await), printed(&rows[2..]));
    assert_eq!(said(&world.run(&["tail", "url", "--from", "48h"]).await), printed(&rows[1..]));
    let to = crate::world::text(ago(1000));
    assert_eq!(said(&world.run(&["tail", "url", "--from", "7d", "--to", &to]).await), printed(&rows[..2]));
    let output = world.run(&["tail", "url", "--from", "7d", "--limit", "1"]).await;
    assert_eq!(said(&output), printed(&rows[..1]));
    assert!(String::from_utf8(output.stderr).unwrap().contains("as many lines as were asked for"));
    // A Devo secret with an address of its own does not make it deliver.
    world.settings.insert("DEVO_URL".to_owned(), "https://http-eu.devo.io".to_owned());
    assert_eq!(said(&world.run(&["tail", "url"]).await), printed(&rows[2..]));
    assert_eq!((world.devo.requests().len(), world.lines()), (requests, rows));
    world.mimecast.deny("/api/ttp/url/");
    let output = world.run(&["tail", "url"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("Monitoring | URL Protection | Read"), "{text}");
}

#[tokio::test]
async fn dead_letters_are_deleted_for_good_when_that_is_confirmed() {
    let (world, rows) = World::collected().await;
    let delete = ["dead-letters", "delete", "--source", "url"];
    assert_eq!(world.run(&delete).await.status.code(), Some(2));
    assert!(said(&world.run(&["dead-letters", "list"]).await).contains("url"));
    assert!(said(&world.run(&[&delete[..], &["--reason", "no such"]].concat()).await).contains("no such dead letters"));
    let told = said(&world.run(&[&delete[..], &["--yes"]].concat()).await);
    assert!(told.contains("1 dead letters deleted"), "{told}");
    assert!(said(&world.run(&["dead-letters", "list"]).await).contains("no dead letters"));
    world.once().await;
    assert_eq!(world.lines(), rows);
    assert!(said(&world.run(&["dead-letters", "list"]).await).contains("no dead letters"), "it is not read again");
}

//! The servers under the other tests do what those rely on.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::kafka::Kafka;
use crate::readers;
use crate::s3::S3;
use crate::tools::folder;
use crate::watershed::Watershed;

#[test]
fn kafka_keeps_acknowledged_records_when_killed() {
    let mut kafka = Kafka::start();
    kafka.create_topic("letters", 2);
    kafka.produce("letters", [(0, b"a".as_slice()), (1, b"b"), (0, b"c")]);
    kafka.kill();
    kafka.restart();
    kafka.produce("letters", [(1, b"d".as_slice())]);
    let read: Vec<_> = kafka.read("letters").into_iter().map(|r| (r.partition, r.offset, r.value)).collect();
    assert_eq!(read, [(0, 0, b"a".to_vec()), (0, 1, b"c".to_vec()), (1, 0, b"b".to_vec()), (1, 1, b"d".to_vec())]);
}

#[test]
fn of_many_creators_of_one_object_one_wins() {
    let server = S3::shared();
    let (bucket, objects) = server.bucket();
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_allow_http(true);
    for (key, value) in server.environment() {
        builder = builder.with_config(key.to_lowercase().parse().expect("a setting"), value);
    }
    let store: Arc<dyn ObjectStore> = Arc::new(builder.build().expect("a client"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for race in 0..20 {
        let path = Path::from(format!("races/{race}"));
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..16 {
            let (store, path) = (Arc::clone(&store), path.clone());
            writers.spawn_on(
                async move {
                    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                    store.put_opts(&path, format!("writer {writer}").into(), options).await.map(|_| writer)
                },
                runtime.handle(),
            );
        }
        let outcomes = runtime.block_on(writers.join_all());
        let winners: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(winners.len(), 1, "race {race}: {outcomes:?}");
        let stands = std::fs::read_to_string(objects.join("races").join(race.to_string())).expect("an object is a file");
        assert_eq!(stands, format!("writer {}", winners[0]));
        let read = runtime.block_on(async { store.get(&path).await?.bytes().await }).expect("it can be read");
        assert_eq!(read, stands.as_bytes());
    }
}

#[test]
fn other_readers_are_installed() {
    let readers = readers::read_with_all(&[]);
    assert_eq!(readers.into_iter().collect::<Vec<_>>(), [("spark".to_owned(), BTreeMap::new())]);
}

#[test]
fn the_binary_runs() {
    let home = folder("home-");
    Watershed::new(["--help"]).env("HOME", home.path().to_string_lossy()).succeeds();
}

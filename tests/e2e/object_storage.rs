//! A warehouse on an S3-protocol server.

use crate::exactly_once::{check_equal, produce};
use crate::input::{CHUNKS, PARTITIONS};
use crate::kafka::Kafka;
use crate::project::Project;
use crate::s3::S3;

#[test]
fn a_warehouse_on_s3_survives_kills() {
    let (kafka, s3) = (Kafka::shared(), S3::shared());
    kafka.create_topic("s3", PARTITIONS);
    let (bucket, objects) = s3.bucket();
    let environment = s3.environment().into_iter().collect();
    let project = Project::remote(kafka.bootstrap(), "s3", format!("s3://{bucket}/lake"), objects.join("lake"), environment);
    let steps = ["files_staged", "record_written", "one_table_committed", "tables_committed"];
    for (chunk, step) in (0..CHUNKS).zip(steps) {
        produce(kafka, "s3", chunk);
        let last = chunk == CHUNKS - 1;
        project.stream_to_end(last).killed_at(step, chunk % 3).run().died_at(step);
        project.stream_to_end(last).succeeds();
    }
    check_equal(&project);
    let answer = project.watershed(["shell", "--output", "csv", "-c", "SELECT count(*) AS n FROM bronze.events"]).succeeds();
    assert_eq!(answer.split_whitespace().collect::<Vec<_>>(), ["n", &project.table("bronze.events").count().to_string()]);
}

//! The requests that move no records: who is there, which topics, whose turn, how far a group has come.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::catalog::{Catalog, Topic};
use super::messages::{
    ApiVersion, ApiVersionsResponse, Coordinator, CreatableTopic, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResponse, DescribeConfigsResult, FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest,
    InitProducerIdResponse, MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use super::protocol::{ErrorCode, VERSIONS, Versions};

/// The only broker there is.
const NODE_ID: i32 = 1;

/// Where the only broker there is listens, as clients are told.
const HOST: &str = "127.0.0.1";

pub(super) fn api_versions(code: ErrorCode) -> ApiVersionsResponse {
    let version = |served: &Versions| ApiVersion { api_key: served.kind as i16, min_version: served.min, max_version: served.max };
    ApiVersionsResponse { error_code: code.number(), api_keys: VERSIONS.iter().map(version).collect(), throttle_time_ms: 0 }
}

pub(super) fn metadata(catalog: &Catalog, port: u16, request: MetadataRequest) -> MetadataResponse {
    let topics = match request.topics {
        None => catalog.topics().iter().map(metadata_topic).collect(),
        Some(wanted) => {
            let all = catalog.topics();
            let is_meant = |topic: &Topic, wanted: &MetadataRequestTopic| match &wanted.name {
                Some(name) => topic.name == *name,
                None => topic.id == wanted.topic_id,
            };
            let one = |wanted: MetadataRequestTopic| match all.iter().find(|topic| is_meant(topic, &wanted)) {
                Some(topic) => metadata_topic(topic),
                None => MetadataResponseTopic {
                    error_code: ErrorCode::UnknownTopicOrPartition.number(),
                    name: wanted.name.unwrap_or_default(),
                    topic_id: wanted.topic_id,
                    ..MetadataResponseTopic::default()
                },
            };
            wanted.into_iter().map(one).collect()
        }
    };
    let broker = MetadataResponseBroker { node_id: NODE_ID, host: HOST.into(), port: i32::from(port), rack: None };
    MetadataResponse {
        brokers: vec![broker],
        cluster_id: Some(catalog.cluster_id()),
        controller_id: NODE_ID,
        topics,
        ..MetadataResponse::default()
    }
}

fn metadata_topic(topic: &Topic) -> MetadataResponseTopic {
    let partition = |index| MetadataResponsePartition {
        partition_index: index,
        leader_id: NODE_ID,
        leader_epoch: 0,
        replica_nodes: vec![NODE_ID],
        isr_nodes: vec![NODE_ID],
        ..MetadataResponsePartition::default()
    };
    MetadataResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.id,
        partitions: (0..topic.partitions).map(partition).collect(),
        ..MetadataResponseTopic::default()
    }
}

pub(super) fn create_topics(catalog: &Catalog, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let create = |name: &str, partitions: i32| match catalog.topic(name) {
        Some(_) => Err(ErrorCode::TopicAlreadyExists),
        None if request.validate_only => Ok(Topic { name: name.into(), id: Uuid::nil(), partitions }),
        None => catalog.create_topic(name, partitions),
    };
    let one = |topic: CreatableTopic| {
        let (code, id, partitions) = match create(&topic.name, topic.num_partitions) {
            Ok(made) => (ErrorCode::None, made.id, made.partitions),
            Err(code) => (code, Uuid::nil(), -1),
        };
        CreatableTopicResult {
            name: topic.name,
            topic_id: id,
            error_code: code.number(),
            error_message: None,
            num_partitions: partitions,
            replication_factor: 1,
            configs: Some(Vec::new()),
        }
    };
    CreateTopicsResponse { throttle_time_ms: 0, topics: request.topics.into_iter().map(one).collect() }
}

pub(super) fn delete_topics(catalog: &Catalog, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_state = request.topics.into_iter().filter_map(|topic| topic.name);
    let names: Vec<String> = request.topic_names.into_iter().chain(by_state).collect();
    let one = |name: String| {
        let code = catalog.delete_topic(&name).err().unwrap_or(ErrorCode::None);
        DeletableTopicResult { name, error_code: code.number(), ..DeletableTopicResult::default() }
    };
    DeleteTopicsResponse { throttle_time_ms: 0, responses: names.into_iter().map(one).collect() }
}

/// No topic has settings of its own: tools that ask for them (`kafka-topics --describe`) get none.
pub(super) fn describe_configs(catalog: &Catalog, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    const TOPIC: i8 = 2;
    let one = |resource: DescribeConfigsResource| {
        let unknown = resource.resource_type == TOPIC && catalog.topic(&resource.resource_name).is_none();
        let code = if unknown { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::None };
        DescribeConfigsResult {
            error_code: code.number(),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            ..DescribeConfigsResult::default()
        }
    };
    DescribeConfigsResponse { throttle_time_ms: 0, results: request.resources.into_iter().map(one).collect() }
}

/// Hands out a producer id: random, so that nothing need be remembered. There are no transactions.
pub(super) fn init_producer_id(request: &InitProducerIdRequest) -> InitProducerIdResponse {
    if request.transactional_id.is_some() {
        return InitProducerIdResponse { error_code: ErrorCode::InvalidRequest.number(), ..InitProducerIdResponse::default() };
    }
    let id = (Uuid::new_v4().as_u128() >> 65) as i64;
    InitProducerIdResponse { producer_id: id, producer_epoch: 0, ..InitProducerIdResponse::default() }
}

pub(super) fn find_coordinator(port: u16, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let port = i32::from(port);
    let one = |key: String| Coordinator { key, node_id: NODE_ID, host: HOST.into(), port, ..Coordinator::default() };
    FindCoordinatorResponse {
        node_id: NODE_ID,
        host: HOST.into(),
        port,
        coordinators: request.coordinator_keys.into_iter().map(one).collect(),
        ..FindCoordinatorResponse::default()
    }
}

pub(super) fn offset_commit(catalog: &Catalog, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut topics = Vec::new();
    for topic in request.topics {
        let mut answers = Vec::new();
        for partition in topic.partitions {
            let index = partition.partition_index;
            let code = catalog.log(&topic.name, index).err().unwrap_or(ErrorCode::None);
            if code == ErrorCode::None {
                catalog.commit_offset(&request.group_id, &topic.name, index, partition.committed_offset);
            }
            answers.push(OffsetCommitResponsePartition { partition_index: index, error_code: code.number() });
        }
        topics.push(OffsetCommitResponseTopic { name: topic.name, partitions: answers });
    }
    OffsetCommitResponse { throttle_time_ms: 0, topics }
}

pub(super) fn offset_fetch(catalog: &Catalog, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let one = |group: OffsetFetchRequestGroup| {
        let topics = committed(catalog, &group.group_id, group.topics);
        OffsetFetchResponseGroup { group_id: group.group_id, topics, error_code: 0 }
    };
    OffsetFetchResponse {
        topics: committed(catalog, &request.group_id, request.topics),
        groups: request.groups.into_iter().map(one).collect(),
        ..OffsetFetchResponse::default()
    }
}

/// Offsets of a group: of the partitions asked for, or all.
fn committed(catalog: &Catalog, group: &str, wanted: Option<Vec<OffsetFetchRequestTopic>>) -> Vec<OffsetFetchResponseTopic> {
    let offset = |(partition_index, committed_offset)| OffsetFetchResponsePartition {
        partition_index,
        committed_offset,
        metadata: Some(String::new()),
        ..OffsetFetchResponsePartition::default()
    };
    let Some(wanted) = wanted else {
        let of = |(name, offsets): (String, BTreeMap<i32, i64>)| OffsetFetchResponseTopic {
            name,
            partitions: offsets.into_iter().map(offset).collect(),
        };
        return catalog.committed(group).into_iter().map(of).collect();
    };
    let of = |topic: OffsetFetchRequestTopic| {
        let offsets = topic.partition_indexes.into_iter();
        let offsets = offsets.map(|partition| (partition, catalog.committed_offset(group, &topic.name, partition)));
        OffsetFetchResponseTopic { partitions: offsets.map(offset).collect(), name: topic.name }
    };
    wanted.into_iter().map(of).collect()
}

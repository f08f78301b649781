//! The requests that move no records: who is there, which topics, whose turn, how far a group has come.

use std::collections::BTreeMap;

use tansu_sans_io::api_versions_response::ApiVersion;
use tansu_sans_io::create_topics_response::CreatableTopicResult;
use tansu_sans_io::delete_topics_response::DeletableTopicResult;
use tansu_sans_io::describe_configs_response::DescribeConfigsResult;
use tansu_sans_io::find_coordinator_response::Coordinator;
use tansu_sans_io::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use tansu_sans_io::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use tansu_sans_io::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use tansu_sans_io::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, ErrorCode, FetchRequest, FindCoordinatorRequest, FindCoordinatorResponse,
    InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest, MetadataRequest, MetadataResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, ProduceRequest,
};
use uuid::Uuid;

use super::catalog::{Catalog, Topic};

/// The only broker there is.
const NODE_ID: i32 = 1;

/// What "no information on what one may do" is in the protocol.
const NO_OPERATIONS: i32 = i32::MIN;

/// Requests understood and their versions: from what Kafka 4 clients still need to the last before topics go by id.
pub(super) const VERSIONS: [(i16, i16, i16); 12] = [
    (ProduceRequest::KEY, 3, 9),
    (FetchRequest::KEY, 4, 12),
    (ListOffsetsRequest::KEY, 1, 7),
    (MetadataRequest::KEY, 0, 12),
    (OffsetCommitRequest::KEY, 2, 8),
    (OffsetFetchRequest::KEY, 1, 8),
    (FindCoordinatorRequest::KEY, 0, 4),
    (ApiVersionsRequest::KEY, 0, 3),
    (CreateTopicsRequest::KEY, 2, 7),
    (DeleteTopicsRequest::KEY, 1, 6),
    (InitProducerIdRequest::KEY, 0, 4),
    (DescribeConfigsRequest::KEY, 1, 4),
];

pub(super) fn api_versions(code: ErrorCode) -> ApiVersionsResponse {
    let keys = VERSIONS.iter().map(|&(key, min, max)| ApiVersion::default().api_key(key).min_version(min).max_version(max)).collect();
    ApiVersionsResponse::default()
        .error_code(code.into())
        .api_keys(Some(keys))
        .throttle_time_ms(Some(0))
        .supported_features(Some(Vec::new()))
        .finalized_features_epoch(Some(-1))
        .finalized_features(Some(Vec::new()))
        .zk_migration_ready(Some(false))
}

pub(super) fn metadata(catalog: &Catalog, port: u16, request: MetadataRequest) -> MetadataResponse {
    let topics = match request.topics {
        None => catalog.topics().iter().map(metadata_topic).collect(),
        Some(wanted) => {
            let all = catalog.topics();
            let find = |name: Option<&str>, id: Option<[u8; 16]>| {
                all.iter().find(|topic| Some(topic.name.as_str()) == name || (name.is_none() && Some(topic.id.into_bytes()) == id))
            };
            let one = |wanted: tansu_sans_io::metadata_request::MetadataRequestTopic| match find(wanted.name.as_deref(), wanted.topic_id) {
                Some(topic) => metadata_topic(topic),
                None => MetadataResponseTopic::default()
                    .error_code(ErrorCode::UnknownTopicOrPartition.into())
                    .name(Some(wanted.name.unwrap_or_default()))
                    .topic_id(Some(wanted.topic_id.unwrap_or_default()))
                    .is_internal(Some(false))
                    .partitions(Some(Vec::new()))
                    .topic_authorized_operations(Some(NO_OPERATIONS)),
            };
            wanted.into_iter().map(one).collect()
        }
    };
    let broker = MetadataResponseBroker::default().node_id(NODE_ID).host("127.0.0.1".into()).port(i32::from(port));
    MetadataResponse::default()
        .throttle_time_ms(Some(0))
        .brokers(Some(vec![broker]))
        .cluster_id(Some(catalog.cluster_id()))
        .controller_id(Some(NODE_ID))
        .topics(Some(topics))
        .cluster_authorized_operations(Some(NO_OPERATIONS))
}

fn metadata_topic(topic: &Topic) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .partition_index(index)
            .leader_id(NODE_ID)
            .leader_epoch(Some(0))
            .replica_nodes(Some(vec![NODE_ID]))
            .isr_nodes(Some(vec![NODE_ID]))
            .offline_replicas(Some(Vec::new()))
    };
    MetadataResponseTopic::default()
        .name(Some(topic.name.clone()))
        .topic_id(Some(topic.id.into_bytes()))
        .is_internal(Some(false))
        .partitions(Some((0..topic.partitions).map(partition).collect()))
        .topic_authorized_operations(Some(NO_OPERATIONS))
}

pub(super) fn create_topics(catalog: &Catalog, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let only_checked = request.validate_only.unwrap_or(false);
    let create = |name: &str, partitions: i32| match catalog.topic(name) {
        Some(_) => Err(ErrorCode::TopicAlreadyExists),
        None if only_checked => Ok(Topic { name: name.into(), id: Uuid::nil(), partitions }),
        None => catalog.create_topic(name, partitions),
    };
    let one = |topic: tansu_sans_io::create_topics_request::CreatableTopic| {
        let (code, id, partitions) = match create(&topic.name, topic.num_partitions) {
            Ok(made) => (ErrorCode::None, made.id, made.partitions),
            Err(code) => (code, Uuid::nil(), -1),
        };
        CreatableTopicResult::default()
            .name(topic.name)
            .topic_id(Some(id.into_bytes()))
            .error_code(code.into())
            .topic_config_error_code(Some(0))
            .num_partitions(Some(partitions))
            .replication_factor(Some(1))
            .configs(Some(Vec::new()))
    };
    let topics = request.topics.unwrap_or_default().into_iter().map(one).collect();
    CreateTopicsResponse::default().throttle_time_ms(Some(0)).topics(Some(topics))
}

pub(super) fn delete_topics(catalog: &Catalog, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_state = request.topics.into_iter().flatten().filter_map(|topic| topic.name);
    let names: Vec<String> = request.topic_names.into_iter().flatten().chain(by_state).collect();
    let one = |name: String| {
        let code = catalog.delete_topic(&name).err().unwrap_or(ErrorCode::None);
        DeletableTopicResult::default().name(Some(name)).topic_id(Some([0; 16])).error_code(code.into())
    };
    DeleteTopicsResponse::default().throttle_time_ms(Some(0)).responses(Some(names.into_iter().map(one).collect()))
}

/// No topic has settings of its own: tools that ask for them (`kafka-topics --describe`) get none.
pub(super) fn describe_configs(catalog: &Catalog, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    const TOPIC: i8 = 2;
    let one = |resource: tansu_sans_io::describe_configs_request::DescribeConfigsResource| {
        let unknown = resource.resource_type == TOPIC && catalog.topic(&resource.resource_name).is_none();
        let code = if unknown { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::None };
        DescribeConfigsResult::default()
            .error_code(code.into())
            .resource_type(resource.resource_type)
            .resource_name(resource.resource_name)
            .configs(Some(Vec::new()))
    };
    DescribeConfigsResponse::default()
        .throttle_time_ms(0)
        .results(Some(request.resources.unwrap_or_default().into_iter().map(one).collect()))
}

/// Hands out a producer id: random, so that nothing need be remembered. There are no transactions.
pub(super) fn init_producer_id(request: &InitProducerIdRequest) -> InitProducerIdResponse {
    if request.transactional_id.is_some() {
        return InitProducerIdResponse::default().error_code(ErrorCode::InvalidRequest.into()).producer_id(-1).producer_epoch(-1);
    }
    let id = (Uuid::new_v4().as_u128() >> 65) as i64;
    InitProducerIdResponse::default().error_code(0).producer_id(id).producer_epoch(0)
}

pub(super) fn find_coordinator(port: u16, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let (host, port) = ("127.0.0.1".to_string(), i32::from(port));
    let one = |key: String| Coordinator::default().key(key).node_id(NODE_ID).host("127.0.0.1".into()).port(port);
    FindCoordinatorResponse::default()
        .throttle_time_ms(Some(0))
        .error_code(Some(0))
        .node_id(Some(NODE_ID))
        .host(Some(host))
        .port(Some(port))
        .coordinators(Some(request.coordinator_keys.unwrap_or_default().into_iter().map(one).collect()))
}

pub(super) fn offset_commit(catalog: &Catalog, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut topics = Vec::new();
    for topic in request.topics.unwrap_or_default() {
        let mut answers = Vec::new();
        for partition in topic.partitions.unwrap_or_default() {
            let code = match catalog.log(&topic.name, partition.partition_index) {
                Ok(_) => ErrorCode::None,
                Err(code) => code,
            };
            if code == ErrorCode::None {
                catalog.commit_offset(&request.group_id, &topic.name, partition.partition_index, partition.committed_offset);
            }
            answers.push(OffsetCommitResponsePartition::default().partition_index(partition.partition_index).error_code(code.into()));
        }
        topics.push(OffsetCommitResponseTopic::default().name(topic.name).partitions(Some(answers)));
    }
    OffsetCommitResponse::default().throttle_time_ms(Some(0)).topics(Some(topics))
}

pub(super) fn offset_fetch(catalog: &Catalog, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default().throttle_time_ms(Some(0)).error_code(Some(0));
    if let Some(groups) = request.groups {
        let one = |group: tansu_sans_io::offset_fetch_request::OffsetFetchRequestGroup| {
            let wanted = group.topics.map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
            let topics = committed(catalog, &group.group_id, wanted).into_iter().map(|(name, offsets)| {
                let partition = |(partition, offset)| {
                    OffsetFetchResponsePartitions::default()
                        .partition_index(partition)
                        .committed_offset(offset)
                        .committed_leader_epoch(-1)
                        .metadata(Some(String::new()))
                };
                OffsetFetchResponseTopics::default().name(name).partitions(Some(offsets.into_iter().map(partition).collect()))
            });
            OffsetFetchResponseGroup::default().group_id(group.group_id.clone()).topics(Some(topics.collect()))
        };
        return response.groups(Some(groups.into_iter().map(one).collect()));
    }
    let group = request.group_id.unwrap_or_default();
    let wanted = request.topics.map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
    let topics = committed(catalog, &group, wanted).into_iter().map(|(name, offsets)| {
        let partition = |(partition, offset)| {
            OffsetFetchResponsePartition::default()
                .partition_index(partition)
                .committed_offset(offset)
                .committed_leader_epoch(Some(-1))
                .metadata(Some(String::new()))
        };
        OffsetFetchResponseTopic::default().name(name).partitions(Some(offsets.into_iter().map(partition).collect()))
    });
    response.topics(Some(topics.collect()))
}

/// Offsets of a group: of the partitions asked for, or all.
fn committed(catalog: &Catalog, group: &str, wanted: Option<Vec<(String, Option<Vec<i32>>)>>) -> BTreeMap<String, BTreeMap<i32, i64>> {
    let Some(wanted) = wanted else { return catalog.committed(group) };
    let of = |(name, partitions): (String, Option<Vec<i32>>)| {
        let partitions = partitions.unwrap_or_default().into_iter();
        let offsets = partitions.map(|partition| (partition, catalog.committed_offset(group, &name, partition))).collect();
        (name, offsets)
    };
    wanted.into_iter().map(of).collect()
}

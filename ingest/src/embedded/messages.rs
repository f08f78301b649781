//! The requests and answers of the embedded broker, field by field in their order on the wire (the macro is in `wire.rs`).
//!
//! Fields have the names that Kafka's own definitions give them. What is in versions that are not served is left out, as are tagged fields.

use bytes::Bytes;
use uuid::Uuid;

use super::wire::messages;

/// What "no information on what one may do" is in the protocol.
const NO_OPERATIONS: i32 = i32::MIN;

messages! {
    /// Append record batches.
    ProduceRequest {
        transactional_id: Option<String>,
        acks: i16,
        timeout_ms: i32,
        topic_data: Vec<TopicProduceData>,
    }
    TopicProduceData {
        name: String,
        partition_data: Vec<PartitionProduceData>,
    }
    PartitionProduceData {
        index: i32,
        records: Option<Bytes>,
    }
    ProduceResponse {
        responses: Vec<TopicProduceResponse>,
        throttle_time_ms: i32,
    }
    TopicProduceResponse {
        name: String,
        partition_responses: Vec<PartitionProduceResponse>,
    }
    PartitionProduceResponse {
        index: i32,
        error_code: i16,
        base_offset: i64 = -1,
        log_append_time_ms: i64 = -1,
        log_start_offset: i64 [5..] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage> [8..],
        error_message: Option<String> [8..],
    }
    BatchIndexAndErrorMessage {
        batch_index: i32,
        batch_index_error_message: Option<String>,
    }

    /// Read record batches.
    FetchRequest {
        replica_id: i32 = -1,
        max_wait_ms: i32,
        min_bytes: i32,
        max_bytes: i32 = i32::MAX,
        isolation_level: i8,
        session_id: i32 [7..],
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic>,
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        rack_id: String [11..],
    }
    FetchTopic {
        topic: String,
        partitions: Vec<FetchPartition>,
    }
    FetchPartition {
        partition: i32,
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64,
        last_fetched_epoch: i32 [12..] = -1,
        log_start_offset: i64 [5..] = -1,
        partition_max_bytes: i32,
    }
    ForgottenTopic {
        topic: String,
        partitions: Vec<i32>,
    }
    FetchResponse {
        throttle_time_ms: i32,
        error_code: i16 [7..],
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse>,
    }
    FetchableTopicResponse {
        topic: String,
        partitions: Vec<PartitionData>,
    }
    PartitionData {
        partition_index: i32,
        error_code: i16,
        high_watermark: i64 = -1,
        last_stable_offset: i64 = -1,
        log_start_offset: i64 [5..] = -1,
        aborted_transactions: Option<Vec<AbortedTransaction>>,
        preferred_read_replica: i32 [11..] = -1,
        records: Option<Bytes>,
    }
    AbortedTransaction {
        producer_id: i64,
        first_offset: i64,
    }

    /// Where a log begins and ends, and what is there since a time.
    ListOffsetsRequest {
        replica_id: i32 = -1,
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic>,
    }
    ListOffsetsTopic {
        name: String,
        partitions: Vec<ListOffsetsPartition>,
    }
    ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 [4..] = -1,
        timestamp: i64,
    }
    ListOffsetsResponse {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse>,
    }
    ListOffsetsTopicResponse {
        name: String,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }
    ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: i16,
        timestamp: i64 = -1,
        offset: i64 = -1,
        leader_epoch: i32 [4..] = -1,
    }

    /// Which brokers and topics there are.
    MetadataRequest {
        topics: Option<Vec<MetadataRequestTopic>>,
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }
    MetadataRequestTopic {
        topic_id: Uuid [10..],
        name: Option<String>,
    }
    MetadataResponse {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker>,
        cluster_id: Option<String> [2..],
        controller_id: i32 [1..] = -1,
        topics: Vec<MetadataResponseTopic>,
        cluster_authorized_operations: i32 [8..=10] = NO_OPERATIONS,
    }
    MetadataResponseBroker {
        node_id: i32,
        host: String,
        port: i32,
        rack: Option<String> [1..],
    }
    MetadataResponseTopic {
        error_code: i16,
        name: String,
        topic_id: Uuid [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition>,
        topic_authorized_operations: i32 [8..] = NO_OPERATIONS,
    }
    MetadataResponsePartition {
        error_code: i16,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [7..] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [5..],
    }

    /// Keep how far a group has come.
    OffsetCommitRequest {
        group_id: String,
        generation_id: i32 = -1,
        member_id: String,
        group_instance_id: Option<String> [7..],
        retention_time_ms: i64 [2..=4] = -1,
        topics: Vec<OffsetCommitRequestTopic>,
    }
    OffsetCommitRequestTopic {
        name: String,
        partitions: Vec<OffsetCommitRequestPartition>,
    }
    OffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [6..] = -1,
        committed_metadata: Option<String>,
    }
    OffsetCommitResponse {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetCommitResponseTopic>,
    }
    OffsetCommitResponseTopic {
        name: String,
        partitions: Vec<OffsetCommitResponsePartition>,
    }
    OffsetCommitResponsePartition {
        partition_index: i32,
        error_code: i16,
    }

    /// How far a group has come; since version 8 of several groups.
    OffsetFetchRequest {
        group_id: String [..=7],
        topics: Option<Vec<OffsetFetchRequestTopic>> [..=7],
        groups: Vec<OffsetFetchRequestGroup> [8..],
        require_stable: bool [7..],
    }
    OffsetFetchRequestGroup {
        group_id: String,
        topics: Option<Vec<OffsetFetchRequestTopic>>,
    }
    OffsetFetchRequestTopic {
        name: String,
        partition_indexes: Vec<i32>,
    }
    OffsetFetchResponse {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetFetchResponseTopic> [..=7],
        error_code: i16 [2..=7],
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }
    OffsetFetchResponseGroup {
        group_id: String,
        topics: Vec<OffsetFetchResponseTopic>,
        error_code: i16,
    }
    OffsetFetchResponseTopic {
        name: String,
        partitions: Vec<OffsetFetchResponsePartition>,
    }
    OffsetFetchResponsePartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [5..] = -1,
        metadata: Option<String>,
        error_code: i16,
    }

    /// Which broker keeps a group's offsets; since version 4 of several groups.
    FindCoordinatorRequest {
        key: String [..=3],
        key_type: i8 [1..],
        coordinator_keys: Vec<String> [4..],
    }
    FindCoordinatorResponse {
        throttle_time_ms: i32 [1..],
        error_code: i16 [..=3],
        error_message: Option<String> [1..=3],
        node_id: i32 [..=3],
        host: String [..=3],
        port: i32 [..=3],
        coordinators: Vec<Coordinator> [4..],
    }
    Coordinator {
        key: String,
        node_id: i32,
        host: String,
        port: i32,
        error_code: i16,
        error_message: Option<String>,
    }

    /// Which requests the broker understands.
    ApiVersionsRequest {
        client_software_name: String [3..],
        client_software_version: String [3..],
    }
    ApiVersionsResponse {
        error_code: i16,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 [1..],
    }
    ApiVersion {
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }

    CreateTopicsRequest {
        topics: Vec<CreatableTopic>,
        timeout_ms: i32,
        validate_only: bool,
    }
    CreatableTopic {
        name: String,
        num_partitions: i32,
        replication_factor: i16,
        assignments: Vec<CreatableReplicaAssignment>,
        configs: Vec<CreatableTopicConfig>,
    }
    CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }
    CreatableTopicConfig {
        name: String,
        value: Option<String>,
    }
    CreateTopicsResponse {
        throttle_time_ms: i32,
        topics: Vec<CreatableTopicResult>,
    }
    CreatableTopicResult {
        name: String,
        topic_id: Uuid [7..],
        error_code: i16,
        error_message: Option<String>,
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [5..],
    }
    CreatableTopicConfigs {
        name: String,
        value: Option<String>,
        read_only: bool,
        config_source: i8,
        is_sensitive: bool,
    }

    DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [6..],
        topic_names: Vec<String> [..=5],
        timeout_ms: i32,
    }
    DeleteTopicState {
        name: Option<String>,
        topic_id: Uuid,
    }
    DeleteTopicsResponse {
        throttle_time_ms: i32,
        responses: Vec<DeletableTopicResult>,
    }
    DeletableTopicResult {
        name: String,
        topic_id: Uuid [6..],
        error_code: i16,
        error_message: Option<String> [5..],
    }

    /// A number for an idempotent producer.
    InitProducerIdRequest {
        transactional_id: Option<String>,
        transaction_timeout_ms: i32,
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
    }
    InitProducerIdResponse {
        throttle_time_ms: i32,
        error_code: i16,
        producer_id: i64 = -1,
        producer_epoch: i16 = -1,
    }

    /// The settings of topics and brokers.
    DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>,
        include_synonyms: bool,
        include_documentation: bool [3..],
    }
    DescribeConfigsResource {
        resource_type: i8,
        resource_name: String,
        configuration_keys: Option<Vec<String>>,
    }
    DescribeConfigsResponse {
        throttle_time_ms: i32,
        results: Vec<DescribeConfigsResult>,
    }
    DescribeConfigsResult {
        error_code: i16,
        error_message: Option<String>,
        resource_type: i8,
        resource_name: String,
        configs: Vec<DescribeConfigsResourceResult>,
    }
    DescribeConfigsResourceResult {
        name: String,
        value: Option<String>,
        read_only: bool,
        config_source: i8,
        is_sensitive: bool,
        synonyms: Vec<DescribeConfigsSynonym>,
        config_type: i8 [3..],
        documentation: Option<String> [3..],
    }
    DescribeConfigsSynonym {
        name: String,
        value: Option<String>,
        source: i8,
    }
}

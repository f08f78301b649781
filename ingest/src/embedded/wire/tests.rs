//! Messages there and back, cut off, and with lengths that lie.

use bytes::Bytes;

use super::{ELEMENTS_MAX, Field, Malformed, Reader, Writer};
use crate::embedded::messages::*;
use crate::embedded::protocol::{Header, Kind, VERSIONS, Versions};

/// Numbers that look like chance and are the same at each run.
pub(in crate::embedded) struct Random(u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 31
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }
}

/// What is asked of each kind of message.
trait Check {
    fn check<T: Field + std::fmt::Debug + PartialEq>(&mut self, version: i16, flexible: bool);
}

/// Has both messages of each kind of request checked in each version.
fn each_message(check: &mut impl Check) {
    VERSIONS.into_iter().for_each(|served| messages_of(check, served));
}

fn messages_of(check: &mut impl Check, served: Versions) {
    fn both<Q, A>(check: &mut impl Check, served: Versions)
    where
        Q: Field + std::fmt::Debug + PartialEq,
        A: Field + std::fmt::Debug + PartialEq,
    {
        for version in served.min..=served.max {
            check.check::<Q>(version, version >= served.flexible);
            check.check::<A>(version, version >= served.flexible);
        }
    }
    match served.kind {
        Kind::Produce => both::<ProduceRequest, ProduceResponse>(check, served),
        Kind::Fetch => both::<FetchRequest, FetchResponse>(check, served),
        Kind::ListOffsets => both::<ListOffsetsRequest, ListOffsetsResponse>(check, served),
        Kind::Metadata => both::<MetadataRequest, MetadataResponse>(check, served),
        Kind::OffsetCommit => both::<OffsetCommitRequest, OffsetCommitResponse>(check, served),
        Kind::OffsetFetch => both::<OffsetFetchRequest, OffsetFetchResponse>(check, served),
        Kind::FindCoordinator => both::<FindCoordinatorRequest, FindCoordinatorResponse>(check, served),
        Kind::ApiVersions => both::<ApiVersionsRequest, ApiVersionsResponse>(check, served),
        Kind::CreateTopics => both::<CreateTopicsRequest, CreateTopicsResponse>(check, served),
        Kind::DeleteTopics => both::<DeleteTopicsRequest, DeleteTopicsResponse>(check, served),
        Kind::InitProducerId => both::<InitProducerIdRequest, InitProducerIdResponse>(check, served),
        Kind::DescribeConfigs => both::<DescribeConfigsRequest, DescribeConfigsResponse>(check, served),
    }
}

/// A request of chance, as a client sends it, without its length.
pub(in crate::embedded) fn any_request(served: Versions, version: i16, seed: u64) -> Bytes {
    struct Any(u64, Option<Bytes>);
    impl Check for Any {
        fn check<T: Field + std::fmt::Debug + PartialEq>(&mut self, version: i16, flexible: bool) {
            // The request comes first, then the answer.
            self.1.get_or_insert_with(|| written(&T::any(&mut Random(self.0), version), version, flexible));
        }
    }
    let mut any = Any(seed, None);
    messages_of(&mut any, Versions { min: version, max: version, ..served });
    let tags: &[u8] = if version >= served.flexible { &[0] } else { &[] };
    let (kind, body) = ((served.kind as i16).to_be_bytes(), any.1.expect("a request"));
    Bytes::from([&kind[..], &version.to_be_bytes(), &9_i32.to_be_bytes(), &[0, 1, b'c'], tags, &body].concat())
}

fn written<T: Field>(message: &T, version: i16, flexible: bool) -> Bytes {
    let mut to = Writer::new(version, flexible);
    message.write(&mut to);
    to.bytes.freeze()
}

fn read<T: Field>(bytes: Bytes, version: i16, flexible: bool) -> Result<T, Malformed> {
    Reader::new(bytes, version, flexible).whole()
}

#[test]
fn every_message_of_every_version_comes_back_as_it_was() {
    struct ThereAndBack(usize);
    impl Check for ThereAndBack {
        fn check<T: Field + std::fmt::Debug + PartialEq>(&mut self, version: i16, flexible: bool) {
            for seed in 0..40 {
                let message = T::any(&mut Random(seed), version);
                assert_eq!(read::<T>(written(&message, version, flexible), version, flexible).as_ref(), Ok(&message), "version {version}");
                self.0 += 1;
            }
        }
    }
    let mut checked = ThereAndBack(0);
    each_message(&mut checked);
    assert!(checked.0 > 5_000, "{}", checked.0);
}

#[test]
fn a_message_that_is_cut_off_or_goes_on_is_an_error() {
    struct Cut;
    impl Check for Cut {
        fn check<T: Field + std::fmt::Debug + PartialEq>(&mut self, version: i16, flexible: bool) {
            for seed in 0..3 {
                let bytes = written(&T::any(&mut Random(seed), version), version, flexible);
                for length in 0..bytes.len() {
                    assert!(read::<T>(bytes.slice(..length), version, flexible).is_err(), "version {version}, {length} of {}", bytes.len());
                }
                let longer = Bytes::from([&bytes[..], &[0]].concat());
                assert_eq!(read::<T>(longer, version, flexible), Err(Malformed::LeftOver), "version {version}");
            }
        }
    }
    each_message(&mut Cut);
}

/// Each byte of a message made as large as a byte can be, alone and with the three after it: lengths that lie among them.
#[test]
fn lengths_that_lie_give_an_error_or_another_message_and_take_no_memory() {
    struct Lie(usize);
    impl Check for Lie {
        fn check<T: Field + std::fmt::Debug + PartialEq>(&mut self, version: i16, flexible: bool) {
            for seed in 0..2 {
                let bytes = written(&T::any(&mut Random(seed), version), version, flexible);
                for at in 0..bytes.len() {
                    for lie in [&[0xff][..], &[0x7f], &[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0x7f], &[0x80, 0, 0, 0]] {
                        let mut changed = bytes.to_vec();
                        for (byte, lie) in changed[at..].iter_mut().zip(lie) {
                            *byte = *lie;
                        }
                        self.0 += usize::from(read::<T>(Bytes::from(changed), version, flexible).is_err());
                    }
                }
            }
        }
    }
    let mut refused = Lie(0);
    each_message(&mut refused);
    assert!(refused.0 > 1_000, "{}", refused.0);
}

#[test]
fn lengths_are_checked_before_anything_is_made_of_them() {
    let classic = |bytes: &[u8]| Reader::new(Bytes::copy_from_slice(bytes), 0, false);
    let flexible = |bytes: &[u8]| Reader::new(Bytes::copy_from_slice(bytes), 0, true);
    assert_eq!(classic(&[0x7f, 0xff, 0xff, 0xff, 0]).whole::<Vec<i8>>(), Err(Malformed::CutOff));
    assert_eq!(classic(&[0xff, 0xff, 0xff, 0xfe]).whole::<Option<Vec<i8>>>(), Err(Malformed::Length));
    assert_eq!(classic(&[0xff, 0xff, 0xff, 0xff]).whole::<Option<Vec<i8>>>(), Ok(None));
    assert_eq!(classic(&[0xff, 0xff, 0xff, 0xff]).whole::<Vec<i8>>(), Err(Malformed::Length));
    assert_eq!(classic(&[0xff, 0xff]).whole::<String>(), Err(Malformed::Length));
    assert_eq!(classic(&[0, 2, 0xc3, 0x28]).whole::<String>(), Err(Malformed::Text));
    assert_eq!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f]).whole::<Option<Bytes>>(), Err(Malformed::CutOff));
    assert_eq!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x1f]).whole::<Option<Bytes>>(), Err(Malformed::Length));
    assert_eq!(flexible(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]).whole::<Option<Bytes>>(), Err(Malformed::Length));
    let long = [&[0x82, 0x80, 0x02][..], &[b'x'; 0x8001]].concat();
    assert_eq!(flexible(&long).whole::<String>(), Err(Malformed::Length), "longer than a name may be");
}

#[test]
fn one_request_holds_so_many_elements_and_no_more() {
    let list = |elements: usize| Bytes::from([&(elements as i32).to_be_bytes()[..], &vec![1; elements]].concat());
    assert_eq!(Reader::new(list(ELEMENTS_MAX), 0, false).whole::<Vec<i8>>().map(|read| read.len()), Ok(ELEMENTS_MAX));
    assert_eq!(Reader::new(list(ELEMENTS_MAX + 1), 0, false).whole::<Vec<i8>>(), Err(Malformed::Elements));
    // Tagged fields count, too.
    let tags = [&[0xa1, 0x8d, 0x06][..], &[0; 2 * 100_001]].concat();
    assert_eq!(Reader::new(Bytes::from(tags), 0, true).tags(), Err(Malformed::Elements));
}

/// Byte for byte what Kafka's protocol guide makes of these, so that reading and writing cannot be wrong in the same way.
#[test]
fn requests_and_answers_have_the_bytes_of_the_protocol() {
    // The first request of a client that knows Kafka 4: flexible, with a client's name in the older format and tagged fields in the header.
    let request = b"\0\x12\0\x03\0\0\0\x07\0\x03cli\x01\x00\x01z\x05java\x064.1.0\0";
    let (header, rest) = Header::read(Bytes::from_static(request)).unwrap();
    assert_eq!(header, Header { key: 18, version: 3, correlation_id: 7 });
    let served = header.served().unwrap();
    let read: ApiVersionsRequest = header.request(served, rest).unwrap();
    assert_eq!(read, ApiVersionsRequest { client_software_name: "java".into(), client_software_version: "4.1.0".into() });
    let versions = ApiVersionsResponse { api_keys: vec![ApiVersion { api_key: 3, min_version: 0, max_version: 12 }], ..Default::default() };
    assert_eq!(&header.answer(served, &versions)[..], b"\0\0\0\x13\0\0\0\x07\0\0\x02\0\x03\0\0\0\x0c\0\0\0\0\0\0");

    // An older one, with plain lengths.
    let request = b"\0\x03\0\x01\0\0\0\x08\xff\xff\0\0\0\x01\0\x05rides";
    let (header, rest) = Header::read(Bytes::from_static(request)).unwrap();
    let served = header.served().unwrap();
    let read: MetadataRequest = header.request(served, rest).unwrap();
    let wanted = MetadataRequestTopic { name: Some("rides".into()), ..Default::default() };
    assert_eq!(read, MetadataRequest { topics: Some(vec![wanted]), ..Default::default() });
    let broker = MetadataResponseBroker { node_id: 1, host: "h".into(), port: 9092, rack: None };
    let answer = MetadataResponse { brokers: vec![broker], controller_id: 1, ..Default::default() };
    assert_eq!(
        &header.answer(served, &answer)[..],
        b"\0\0\0\x1d\0\0\0\x08\0\0\0\x01\0\0\0\x01\0\x01h\0\0\x23\x84\xff\xff\0\0\0\x01\0\0\0\0"
    );
}

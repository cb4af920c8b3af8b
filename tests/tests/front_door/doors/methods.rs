//! Each gRPC method, and reflection as grpcurl asks for it.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use prost::Message as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use weir_tests::sender::{Call, Stream};

use super::people::{OTHER_AGENT, named};
use super::{AGENT, For, Site, Somebody, channel};

/// Messages as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let rest = from.remaining();
        Ok(Some(from.copy_to_bytes(rest)))
    }
}

fn shown<T>(mut request: tonic::Request<T>, who: &Somebody) -> tonic::Request<T> {
    if let Some(token) = &who.token {
        let value = format!("Bearer {token}").parse().expect("a token");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// The first answer to an empty message.
async fn call(channel: Channel, path: &str, who: &Somebody) -> Result<Option<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("a connection");
    let path = PathAndQuery::try_from(path).expect("a path");
    let request = shown(tonic::Request::new(tokio_stream::once(Bytes::new())), who);
    let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
    answers.message().await
}

/// One question to reflection.
async fn reflect(
    channel: Channel,
    question: MessageRequest,
    who: &Somebody,
) -> Result<MessageResponse, Status> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let request = shown(tonic::Request::new(tokio_stream::once(request)), who);
    let answers = ServerReflectionClient::new(channel)
        .server_reflection_info(request)
        .await;
    let answer = answers?.into_inner().message().await?.expect("an answer");
    Ok(answer.message_response.expect("it says something"))
}

/// Every method there is, as reflection tells whoever may ask.
async fn methods(channel: &Channel, who: &Somebody) -> BTreeSet<String> {
    let question = MessageRequest::ListServices(String::new());
    let answer = reflect(channel.clone(), question, who)
        .await
        .expect("an answer");
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("no list: {answer:?}");
    };
    let mut found = BTreeSet::new();
    for service in list.service {
        let question = MessageRequest::FileContainingSymbol(service.name.clone());
        let answer = reflect(channel.clone(), question, who)
            .await
            .expect("an answer");
        let MessageResponse::FileDescriptorResponse(files) = answer else {
            panic!("no file: {answer:?}");
        };
        for file in files.file_descriptor_proto {
            let file = prost_types::FileDescriptorProto::decode(&*file).expect("a descriptor");
            let package = file.package().to_owned();
            let own = file.service.iter();
            let own = own.filter(|one| format!("{package}.{}", one.name()) == service.name);
            let methods = own.flat_map(|one| &one.method);
            found.extend(methods.map(|method| format!("/{}/{}", service.name, method.name())));
        }
    }
    found
}

/// Every method: what it is for, and what an empty message comes to where it is let in.
const METHODS: [(&str, For, Code, &str); 6] = [
    (
        "/weir.v1.DeliveryService/Deliver",
        For::Agents,
        Code::InvalidArgument,
        "must carry hello",
    ),
    // These two carry their own proof.
    (
        "/weir.v1.EnrollmentService/Enroll",
        For::Everybody,
        Code::Unauthenticated,
        "no enrol token",
    ),
    (
        "/weir.v1.EnrollmentService/Renew",
        For::Everybody,
        Code::Unauthenticated,
        "client certificate is not known",
    ),
    ("/grpc.health.v1.Health/Check", For::Everybody, Code::Ok, ""),
    ("/grpc.health.v1.Health/Watch", For::Everybody, Code::Ok, ""),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        For::Known,
        Code::InvalidArgument,
        "",
    ),
];

/// Mutations: reflection that anybody may ask; a method that is not in the walk; a tenant that comes from Hello.
#[tokio::test]
async fn every_method_answers_those_it_is_for_and_reflection_lists_them_all() {
    let site = Site::new().await;
    let channel = channel(&site.sink, &site.client).await;
    let reader = site
        .people
        .iter()
        .find(|who| who.role == Some("reader"))
        .expect("a reader");
    let walked: BTreeSet<String> = METHODS
        .iter()
        .map(|(path, ..)| (*path).to_owned())
        .collect();
    assert_eq!(methods(&channel, reader).await, walked);
    for who in &site.people {
        let channel = self::channel(&site.sink, who.client(&site.client)).await;
        for (path, door, code, words) in METHODS {
            let answer = call(channel.clone(), path, who).await;
            let (came, told) = match &answer {
                Ok(answer) => (Code::Ok, format!("{answer:?}")),
                Err(status) => (
                    status.code(),
                    format!("{} {:?}", status.message(), status.metadata()),
                ),
            };
            let (expected, words) = match who.role {
                _ if who.is_wrong() => (Code::Unauthenticated, "this token is not known here"),
                _ if who.may(door) => (code, words),
                None => (Code::Unauthenticated, "a credential is needed"),
                Some(_) => (Code::PermissionDenied, "this credential is for the role"),
            };
            assert_eq!(came, expected, "{} {path}: {told}", who.name);
            assert!(told.contains(words), "{} {path}: {told}", who.name);
            site.tells_nothing(&told, path, who);
        }
        let other = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
        let answer = call(channel.clone(), other, who)
            .await
            .expect_err("no such method");
        assert_eq!(answer.code(), Code::Unimplemented);
        let question = MessageRequest::ListServices(String::new());
        let answer = reflect(channel.clone(), question, who).await;
        assert_eq!(answer.is_ok(), who.role.is_some(), "{}", who.name);
    }
    // The same stream in another tenant is another stream, under the same name and another one, whatever is shown.
    for (who, agent) in [
        ("another tenant's agent", AGENT),
        ("another tenant's enrolled agent", OTHER_AGENT),
    ] {
        let who = named(&site.people, who);
        let stream = Stream::new(agent, 0xab);
        let channel = self::channel(&site.sink, who.client(&site.client)).await;
        let call = Call::over(channel, who.token.as_deref(), &stream)
            .await
            .unwrap_or_else(|error| panic!("{}: {error:?}", who.name));
        let welcome = &call.welcome;
        assert_eq!((welcome.durable_through, welcome.readings_through), (0, 0));
    }
}

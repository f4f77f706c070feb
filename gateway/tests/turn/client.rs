//! A TURN client that asks for relays and permissions, over UDP, TCP and TLS (RFC 8656).

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use callplane_gateway::ice::IceServer;
use rtc::{
    stun::{
        attributes::{ATTR_NONCE, ATTR_REALM, ATTR_USERNAME},
        error_code::ErrorCodeAttribute,
        integrity::MessageIntegrity,
        message::{
            CLASS_ERROR_RESPONSE, CLASS_REQUEST, Getter, METHOD_ALLOCATE, METHOD_CREATE_PERMISSION, METHOD_REFRESH,
            Message, MessageType, Method, Setter, TransactionId,
        },
        textattrs::TextAttribute,
    },
    turn::proto::{PROTO_UDP, lifetime::Lifetime, peeraddr::PeerAddress, reqtrans::RequestedTransport},
};

/// How long an answer may take. A turnserver whose Redis is away says no at once.
const ANSWER: Duration = Duration::from_secs(30);

pub enum Way {
    Udp(UdpSocket),
    Tcp(TcpStream),
    /// By way of `openssl s_client`.
    Tls(Child, ChildStdin, ChildStdout),
}

/// A client with one relay, or none yet.
pub struct Client {
    way: Way,
    username: String,
    password: String,
    realm: String,
    nonce: String,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Way::Tls(child, ..) = &mut self.way {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Way {
    pub fn udp(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        Self::Udp(socket)
    }

    pub fn tcp(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        Self::Tcp(stream)
    }

    pub fn tls(server: SocketAddr) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-tls1_2", "-connect", &server.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self::Tls(child, input, output)
    }

    fn exchange(&mut self, request: &[u8]) -> Vec<u8> {
        fn framed(mut stream: impl Read) -> Vec<u8> {
            let mut message = vec![0; 20];
            stream.read_exact(&mut message).expect("an answer");
            let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
            message.resize(20 + length, 0);
            stream.read_exact(&mut message[20..]).expect("the rest of an answer");
            message
        }
        match self {
            Self::Udp(socket) => {
                let mut buffer = [0; 2048];
                socket.send(request).unwrap();
                let length = socket.recv(&mut buffer).expect("an answer");
                buffer[..length].to_vec()
            }
            Self::Tcp(stream) => {
                stream.write_all(request).unwrap();
                framed(stream)
            }
            Self::Tls(_, input, output) => {
                input.write_all(request).unwrap();
                input.flush().unwrap();
                framed(output)
            }
        }
    }
}

impl Client {
    pub fn new(way: Way, server: &IceServer) -> Self {
        let text = |text: &Option<String>| text.clone().expect("TURN servers have credentials");
        Self {
            way,
            username: text(&server.username),
            password: text(&server.credential),
            realm: String::new(),
            nonce: String::new(),
        }
    }

    /// Asks for a relay.
    ///
    /// # Errors
    /// The code of the refusal.
    pub fn allocate(&mut self) -> Result<(), u16> {
        self.ask(METHOD_ALLOCATE, &[&RequestedTransport { protocol: PROTO_UDP }])
    }

    /// Asks to keep the relay.
    ///
    /// # Errors
    /// The code of the refusal.
    pub fn refresh(&mut self) -> Result<(), u16> {
        self.ask(METHOD_REFRESH, &[&Lifetime(Duration::from_secs(600))])
    }

    /// Asks to exchange packets with `peer`.
    ///
    /// # Errors
    /// The code of the refusal.
    pub fn permit(&mut self, peer: IpAddr) -> Result<(), u16> {
        self.ask(METHOD_CREATE_PERMISSION, &[&PeerAddress { ip: peer, port: 9 }])
    }

    fn ask(&mut self, method: Method, what: &[&dyn Setter]) -> Result<(), u16> {
        // The first answer names the realm and the nonce, and a later one another nonce.
        for _ in 0..3 {
            let answer = self.once(method, what);
            if answer.typ.class != CLASS_ERROR_RESPONSE {
                return Ok(());
            }
            let mut code = ErrorCodeAttribute::default();
            code.get_from(&answer).expect("a refusal has a code");
            let fresh = TextAttribute::get_from_as(&answer, ATTR_NONCE).map(|n| n.text).unwrap_or_default();
            let asks_anew = code.code.0 == 438 || code.code.0 == 401 && self.nonce.is_empty();
            if !asks_anew || fresh.is_empty() {
                return Err(code.code.0);
            }
            self.nonce = fresh;
            self.realm = TextAttribute::get_from_as(&answer, ATTR_REALM).map(|r| r.text).unwrap_or_default();
        }
        panic!("the server asks for another nonce again and again");
    }

    fn once(&mut self, method: Method, what: &[&dyn Setter]) -> Message {
        let provider = rtc::crypto::default_provider().unwrap();
        let mut request = Message::new();
        TransactionId::new().add_to(&mut request).unwrap();
        MessageType::new(method, CLASS_REQUEST).add_to(&mut request).unwrap();
        request.write_header();
        for setter in what {
            setter.add_to(&mut request).unwrap();
        }
        if !self.nonce.is_empty() {
            let texts = [(ATTR_USERNAME, &self.username), (ATTR_REALM, &self.realm), (ATTR_NONCE, &self.nonce)];
            for (attribute, text) in texts {
                TextAttribute::new(attribute, text.clone()).add_to(&mut request).unwrap();
            }
            let (user, realm, password) = (self.username.clone(), self.realm.clone(), self.password.clone());
            MessageIntegrity::new_long_term_integrity_with_provider(user, realm, password, provider.crypto())
                .unwrap()
                .add_to(&mut request)
                .unwrap();
        }
        let mut answer = Message::new();
        answer.raw = self.way.exchange(&request.raw);
        answer.decode().expect("an answer is a STUN message");
        answer
    }
}

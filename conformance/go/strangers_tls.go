// Strangers again, over TLS: what each costs before, in and behind the handshake.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// tlsStrangers are fewer than a core takes handshakes at once.
	tlsStrangers = 900
	// handshakeBytesMax is what one may cost that began TLS, with what the library needs for it.
	handshakeBytesMax = 20 << 10
)

// writeCertificate writes a certificate and its key to files of these names.
func writeCertificate(certFile, keyFile string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		must(os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	}
}

// firstWords keeps what a client says first and takes no more.
type firstWords struct {
	net.Conn
	said []byte
}

func (f *firstWords) Write(bytes []byte) (int, error) {
	f.said = append(f.said, bytes...)
	return 0, errors.New("enough")
}

var anyServer = &tls.Config{InsecureSkipVerify: true}

// clientHello is how a handshake begins.
func clientHello() string {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	words := &firstWords{Conn: near}
	_ = tls.Client(words, anyServer).Handshake()
	return string(words.said)
}

// greeted is a connection that has read INFO and said this.
func (s *server) greeted(text string) net.Conn {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	must(err)
	// Nothing follows INFO before the client speaks.
	_, err = bufio.NewReader(conn).ReadString('\n')
	must(err)
	must(say(conn, text))
	return conn
}

// secured is a connection behind its handshake that has said this.
func (s *server) secured(wait time.Duration, text string) net.Conn {
	conn := s.greeted("")
	time.Sleep(wait)
	secure := tls.Client(conn, anyServer)
	must(secure.Handshake())
	must(say(secure, text))
	return secure
}

func strangersOverTLS(t *suite, first *server) {
	certFile, keyFile := filepath.Join(first.dir, "cert.pem"), filepath.Join(first.dir, "key.pem")
	writeCertificate(certFile, keyFile)
	// timeout is that of the handshake and that of the CONNECT, if it is to be another than unless told otherwise.
	guarded := func(name, timeout string) *server {
		blocks := fmt.Sprintf("tls { cert_file: %q, key_file: %q, %s }\n", certFile, keyFile, timeout)
		return startGuarded(first, name, timeout, blocks, nats.Secure(anyServer))
	}
	hello := clientHello()
	for _, kind := range []struct {
		name  string
		most  int
		begin func(s *server) net.Conn
	}{
		{"that say nothing", strangerBytesMax, func(s *server) net.Conn { return s.greeted("") }},
		{"in the middle of the first flight", handshakeBytesMax, func(s *server) net.Conn { return s.greeted(hello[:len(hello)-5]) }},
		{"that owe the last flight", handshakeBytesMax, func(s *server) net.Conn { return s.greeted(hello) }},
		{"behind it with half a CONNECT", handshakeBytesMax, func(s *server) net.Conn {
			return s.secured(0, "CONNECT {\"name\":\""+strings.Repeat("n", 4_096))
		}},
	} {
		t.checkBeyondReference(fmt.Sprintf("%d connections over TLS %s cost at most %d KiB each", tlsStrangers, kind.name, kind.most>>10), func() {
			s := guarded("tls-memory", "timeout: 60")
			defer s.kill()
			begin := func() net.Conn { return kind.begin(s) }
			each, conns := s.costEach(tlsStrangers, begin, begin)
			fmt.Printf("# %d strangers over TLS %s: %d bytes each\n", tlsStrangers, kind.name, each)
			if each > kind.most {
				fail("%d bytes each", each)
			}
			for _, conn := range conns {
				conn.Close()
			}
		})
	}

	t.checkBeyondReference("who does not say who he is has 2 s, his handshake included", func() {
		s := guarded("tls-time", "")
		defer s.kill()
		for _, begin := range []func() net.Conn{
			func() net.Conn { return s.greeted("") },
			func() net.Conn { return s.greeted(hello) },
			func() net.Conn { return s.secured(0, "CONNECT {") },
			func() net.Conn { return s.secured(1500*time.Millisecond, "CONNECT {") },
		} {
			start := time.Now()
			conn := begin()
			lastWord(conn)
			if took := time.Since(start); took < strangerTime || took > strangerTime+patience/5 {
				fail("closed after %v", took)
			}
		}
	})
}

// NATS servers that want to know who serves their clients: by the key of a user, and by credentials of an account.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/jwt/v2"
	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/nats-io/stan.go"
)

// newKey makes a key pair and tells its public half and its seed.
func newKey(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string, []byte) {
	key, err := create()
	must(err)
	public, err := key.PublicKey()
	must(err)
	seed, err := key.Seed()
	must(err)
	return key, public, seed
}

// throughNATS runs a server behind a NATS server of these options, with a line in its configuration, and uses it.
func throughNATS(first *server, name string, options *natsd.Options, line string, clients ...nats.Option) {
	port := freePort()
	options.Host, options.Port, options.NoSigs, options.NoLog = "127.0.0.1", port, true, true
	there := startNATSWith(options)
	defer there.Shutdown()
	file := filepath.Join(first.dir, name+".conf")
	must(os.WriteFile(file, []byte("streaming {\n  "+line+"\n}\n"), 0o600))
	s := &server{port: port, dir: filepath.Join(first.dir, name), natsOptions: clients}
	must(os.MkdirAll(s.dir, 0o755))
	s.flags = []string{"-ns", fmt.Sprintf("nats://127.0.0.1:%d", port), "-c", file}
	s.start()
	defer s.kill()
	c := s.connect(name)
	c.publish("login", 1, 10)
	var got sink
	c.collect("login", &got, stan.DeliverAllAvailable())
	got.expectRun(1, 10)
	c.leave()
}

func login(t *suite, s *server) {
	s.kill()

	t.check("the key of a user", func() {
		_, public, seed := newKey(nkeys.CreateUser)
		file := filepath.Join(s.dir, "user.nk")
		must(os.WriteFile(file, append(seed, '\n'), 0o600))
		options := &natsd.Options{
			Nkeys:      []*natsd.NkeyUser{{Nkey: public}},
			Users:      []*natsd.User{{Username: "anybody", Password: "x"}},
			NoAuthUser: "anybody",
		}
		throughNATS(s, "by-key", options, fmt.Sprintf("nkey_seed_file: %q", file))
	})

	t.check("credentials of an account", func() {
		operator, operatorPublic, _ := newKey(nkeys.CreateOperator)
		account, accountPublic, _ := newKey(nkeys.CreateAccount)
		_, userPublic, userSeed := newKey(nkeys.CreateUser)
		accountJWT, err := jwt.NewAccountClaims(accountPublic).Encode(operator)
		must(err)
		userJWT, err := jwt.NewUserClaims(userPublic).Encode(account)
		must(err)
		text, err := jwt.FormatUserConfig(userJWT, userSeed)
		must(err)
		file := filepath.Join(s.dir, "user.creds")
		must(os.WriteFile(file, text, 0o600))
		resolver := &natsd.MemAccResolver{}
		must(resolver.Store(accountPublic, accountJWT))
		options := &natsd.Options{TrustedKeys: []string{operatorPublic}, AccountResolver: resolver}
		throughNATS(s, "by-jwt", options, fmt.Sprintf("credentials: %q", file), nats.UserCredentials(file))
	})

	t.checkBeyondReference("a file that is none is named", func() {
		file := filepath.Join(s.dir, "none.conf")
		must(os.WriteFile(file, []byte("streaming { nkey_seed_file: /none/user.nk }"), 0o600))
		expectRefusal([]string{"-ns", "nats://127.0.0.1:1", "--dir", filepath.Join(s.dir, "none"), "-c", file}, "/none/user.nk")
	})
}

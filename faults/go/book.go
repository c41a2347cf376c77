// The ledger: what clients were promised, and at which position of the disk's log they knew it. A crash at a later
// position must keep the promise.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
)

// message is one that somebody began to publish. Acked is 0 as long as nobody was told that it is stored. Refused: there
// was an answer that it is not.
type message struct {
	Channel   string
	Publisher string
	N, Size   int
	Began     int
	Acked     int
	Refused   bool
}

// sighting is a message that a subscriber got: it must keep its sequence from then on.
type sighting struct {
	Channel  string
	Sequence uint64
	Name     string
	At       int
}

// markedAck is a durable's ack: it may be in the log from Sent on, and must be from Settled on (0: no promise).
type markedAck struct {
	Sequence      uint64
	Sent, Settled int
}

// durable is a durable subscription, of a queue group if Group is set. Removing and Removed are 0 unless somebody
// unsubscribed it.
type durable struct {
	Channel, Name, Group       string
	Created, Removing, Removed int
	Acks                       []markedAck
}

type book struct {
	mutex     sync.Mutex
	Messages  []*message
	Sightings []sighting
	Durables  []*durable
}

// name is how a message is told from all others.
func (m *message) name() string { return fmt.Sprintf("%s/%s/%d", m.Channel, m.Publisher, m.N) }

// payload is the message's name, its size, and bytes that no other message has.
func (m *message) payload() []byte {
	head := fmt.Sprintf("%s/%d ", m.name(), m.Size)
	bytes := make([]byte, max(m.Size, len(head)))
	hash := fnv.New64a()
	hash.Write([]byte(head))
	random := rand.New(rand.NewPCG(hash.Sum64(), 1))
	rest := bytes[copy(bytes, head):]
	for ; len(rest) >= 8; rest = rest[8:] {
		binary.LittleEndian.PutUint64(rest, random.Uint64())
	}
	for at := range rest {
		rest[at] = byte(random.Uint32())
	}
	return bytes
}

// parseMessage reads a payload, and says whether each byte of it is right.
func parseMessage(payload []byte) (*message, error) {
	head, _, _ := strings.Cut(string(payload[:min(len(payload), 200)]), " ")
	parts := strings.Split(head, "/")
	if len(parts) != 4 {
		return nil, fmt.Errorf("a message that nobody published: %.60q", payload)
	}
	n, errN := strconv.Atoi(parts[2])
	size, errSize := strconv.Atoi(parts[3])
	m := &message{Channel: parts[0], Publisher: parts[1], N: n, Size: size}
	if errN != nil || errSize != nil || string(m.payload()) != string(payload) {
		return nil, fmt.Errorf("other bytes than were published: %.60q", payload)
	}
	return m, nil
}

func (b *book) begin(m *message) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.Messages = append(b.Messages, m)
}

func (b *book) acked(m *message, at int) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	m.Acked = at
}

func (b *book) refused(m *message) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	m.Refused = true
}

func (b *book) saw(s sighting) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.Sightings = append(b.Sightings, s)
}

func (b *book) ackedCount() int {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	count := 0
	for _, m := range b.Messages {
		if m.Acked > 0 {
			count++
		}
	}
	return count
}

func (b *book) save(path string) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	bytes, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes, 0o644)
}

func readBook(path string) (*book, error) {
	bytes, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b := &book{}
	return b, json.Unmarshal(bytes, b)
}

module weirlog/conformance

go 1.26

require (
	github.com/nats-io/jwt/v2 v2.5.3
	github.com/nats-io/nats-server/v2 v2.9.24
	github.com/nats-io/nats.go v1.31.0
	github.com/nats-io/nkeys v0.4.6
	github.com/nats-io/stan.go v0.10.4
	golang.org/x/crypto v0.15.0
)

require (
	github.com/gogo/protobuf v1.3.2 // indirect
	github.com/klauspost/compress v1.17.3 // indirect
	github.com/minio/highwayhash v1.0.2 // indirect
	github.com/nats-io/nats-streaming-server v0.25.6 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	golang.org/x/sys v0.14.0 // indirect
	golang.org/x/time v0.4.0 // indirect
)

package contract

import (
	"context"
	"time"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// TransientTraceparent is the transient field with the W3C trace context of whoever proposed. It reaches no
// block, and nothing that the chaincode answers or writes depends on it.
const TransientTraceparent = "traceparent"

// proposer gives a context with the trace that the proposal belongs to; without one when it names none.
func proposer(stub shim.ChaincodeStubInterface) (parent context.Context) {
	parent = context.Background()
	// Whatever is wrong here, the answer stands.
	defer func() { _ = recover() }()
	transient, err := stub.GetTransient()
	if err != nil || transient[TransientTraceparent] == nil {
		return parent
	}
	carrier := propagation.MapCarrier{"traceparent": string(transient[TransientTraceparent])}
	return propagation.TraceContext{}.Extract(parent, carrier)
}

// trace reports a finished call as a span, when its proposer sampled it.
func (c *Contract) trace(parent context.Context, function string, began time.Time, response *peer.Response, counts []any) {
	if c.Tracer == nil || !trace.SpanContextFromContext(parent).IsSampled() {
		return
	}
	_, span := c.Tracer.Start(parent, "chaincode "+function, trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindServer))
	for i := 0; i+1 < len(counts); i += 2 {
		span.SetAttributes(attribute.Int("cbmdhi."+counts[i].(string), counts[i+1].(int)))
	}
	if response.GetStatus() >= shim.ERRORTHRESHOLD {
		span.SetStatus(codes.Error, "refused")
	}
	span.End()
}

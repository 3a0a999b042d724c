// validate reads Kubernetes objects (YAML, one document each) from standard input and decodes each strictly into the type
// that Kubernetes itself has for it: unknown fields, wrong types and fields that are there twice are mistakes. It prints one
// line for each object, and ends with 1 if one is wrong. Kinds of others (monitoring, KEDA, Gateway API) are said to be foreign.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	syaml "sigs.k8s.io/yaml"
)

func main() {
	if err := extensions.AddToScheme(scheme.Scheme); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	wrong, count := 0, 0
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		var fields map[string]any
		if err := syaml.UnmarshalStrict(document, &fields); err != nil {
			fmt.Println("wrong:", err)
			wrong++
			continue
		}
		if len(fields) == 0 {
			continue
		}
		count++
		object := unstructured.Unstructured{Object: fields}
		name := fmt.Sprintf("%s %s %s", object.GetAPIVersion(), object.GetKind(), object.GetName())
		_, _, err = decoder.Decode(document, nil, nil)
		switch {
		case err == nil:
			fmt.Println("right:", name)
		case runtime.IsNotRegisteredError(err):
			fmt.Println("foreign:", name)
		default:
			fmt.Println("wrong:", name+":", err)
			wrong++
		}
	}
	if count == 0 {
		fmt.Println("wrong: there are no objects")
		wrong++
	}
	if wrong > 0 {
		os.Exit(1)
	}
}

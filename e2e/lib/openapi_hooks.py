"""What schemathesis has to be told of ingest's document."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    return value if isinstance(value, bytes) else str(value).encode()


def parts(document, schemas):
    """Schemas with all that they are made of."""
    for schema in schemas:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
        yield schema
        for word in ("allOf", "anyOf", "oneOf"):
            yield from parts(document, schema.get(word, []))


def undocumented(document, schemas, value, place=""):
    """The members of an answer that none of its schemas names."""
    known = list(parts(document, schemas))
    if isinstance(value, list):
        items = [schema["items"] for schema in known if "items" in schema]
        for item in value:
            yield from undocumented(document, items, item, f"{place}[]")
    elif isinstance(value, dict):
        for name, member in value.items():
            named = [schema["properties"][name] for schema in known if name in schema.get("properties", {})]
            if not named:
                yield f"{place}.{name}"
            yield from undocumented(document, named, member, f"{place}.{name}")


@schemathesis.check
def every_member_is_documented(context, response, case):
    """Schemas allow members that they don't name, as clients have to; but the document is to name all there are."""
    document = case.operation.schema.raw_schema
    content = case.operation.definition.raw["responses"].get(str(response.status_code), {}).get("content", {})
    kind = response.headers.get("content-type", [""])[0]
    if kind in ("application/json", "application/problem+json") and kind in content and case.path != "/openapi.json":
        wrong = list(undocumented(document, [content[kind]["schema"]], response.json()))
        assert not wrong, f"the document does not name {wrong}"

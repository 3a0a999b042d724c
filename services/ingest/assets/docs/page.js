// Shows the OpenAPI document that stands in this page. Text goes in as text, never as markup.
'use strict';

const spec = JSON.parse(document.getElementById('document').textContent);

/** An element with attributes and children; a child that is no element is text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat().filter((child) => child !== undefined && child !== ''));
  return element;
}

/** The little markup that descriptions use: `code`, *emphasis*, [links](to). */
function inline(text) {
  return text.split(/(`[^`]+`|\*[^*\s][^*]*\*|\[[^\]]+\]\([^)]+\))/).map((part) => {
    const link = /^\[([^\]]+)\]\((https:[^)]+)\)$/.exec(part);
    if (link) return make('a', { href: link[2], rel: 'noreferrer' }, link[1]);
    if (part.length > 2 && part.startsWith('`')) return make('code', {}, part.slice(1, -1));
    if (part.length > 2 && part.startsWith('*')) return make('em', {}, part.slice(1, -1));
    return part;
  });
}

const prose = (text) => (text ?? '').split('\n\n').filter(Boolean).map((paragraph) => make('p', {}, inline(paragraph)));
const pretty = (value) => make('pre', {}, typeof value === 'string' ? value : JSON.stringify(value, null, 2));
const anchor = (name) => `schema-${name}`;
const nameOf = (schema) => schema.$ref?.split('/').at(-1);
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A schema's type in a few words, with links to what has a name. */
function typed(schema) {
  const name = nameOf(schema);
  if (name) return [make('a', { href: `#${anchor(name)}` }, name)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(' or ')];
  if (schema.type === 'array') return ['array of ', ...typed(schema.items ?? {})];
  const variants = schema.oneOf ?? schema.anyOf;
  if (variants) return variants.flatMap((variant, place) => [place ? ' or ' : '', ...typed(variant)]);
  if (schema.allOf) return typed(schema.allOf[0]);
  return [[schema.type ?? 'any', schema.format && `(${schema.format})`].flat().filter(Boolean).join(' ')];
}

function limits(schema) {
  const told = [];
  const between = (least, most, what) => {
    if (most !== undefined) told.push(`${least ?? 0}–${most} ${what}`);
    else if (least !== undefined) told.push(`at least ${least} ${what}`);
  };
  between(schema.minLength, schema.maxLength, 'characters');
  between(schema.minItems, schema.maxItems, 'items');
  between(schema.minimum, schema.maximum, '');
  if (schema.additionalProperties === false) told.push('nothing else');
  return told.map((text) => text.trim()).join(', ');
}

/** What a schema says, below its name. */
function schemaBody(schema) {
  const parts = [...prose(schema.description)];
  if (schema.allOf) return [...parts, ...schema.allOf.flatMap((part) => (nameOf(part) ? [] : schemaBody(part)))];
  if (schema.properties) {
    parts.push(make('dl', {}, Object.entries(schema.properties).map(([name, property]) => {
      const must = schema.required?.includes(name);
      return [
        make('dt', {}, make('code', {}, name), ' ', make('span', { class: 'type' }, typed(property), limits(property) && `, ${limits(property)}`),
          must ? make('span', { class: 'must' }, ' required') : ''),
        make('dd', {}, nameOf(property) ? prose(property.description) : schemaBody(property)),
      ];
    }).flat()));
  }
  const variants = schema.oneOf ?? schema.anyOf;
  if (variants) {
    parts.push(make('ul', { class: 'variants' }, variants.map((variant) => make('li', {},
      nameOf(variant) ? typed(variant) : [make('span', { class: 'type' }, variant.properties ? '' : typed(variant)), ...schemaBody(variant)]))));
  }
  if (schema.type === 'array' && schema.items && !nameOf(schema.items)) parts.push(...schemaBody(schema.items));
  return parts;
}

/** How to send an example from a shell. */
function curl(method, path, mediaType, value, operation) {
  const origin = location.protocol === 'file:' ? 'http://127.0.0.1:8080' : location.origin;
  const words = ['curl -i'];
  if (method !== 'get') words.push(`-X ${method.toUpperCase()}`);
  words.push(quoted(`${origin}${path.replaceAll(/\{(\w+)\}/g, 'lobby')}`));
  const lines = [words.join(' ')];
  if (operation.security?.some((scheme) => scheme.bearer)) lines.push('-H "authorization: Bearer $KEY"');
  if (mediaType) lines.push(`-H ${quoted(`content-type: ${mediaType}`)}`);
  if (mediaType && !/json/.test(mediaType.replace('application/json', '')) && path.endsWith('cloudevents')) {
    lines.push(...['specversion: 1.0', 'id: a7f1', 'source: /shop', 'type: shipped', 'subject: 17'].map((header) => `-H ${quoted(`ce-${header}`)}`));
  }
  if (value !== undefined) lines.push(`--data-binary ${quoted(typeof value === 'string' ? value : JSON.stringify(value))}`);
  return make('pre', {}, lines.join(' \\\n  '));
}

const examples = (content) => Object.values(content.examples ?? {});

function requestBody(method, path, operation) {
  if (!operation.requestBody) return operation.security ? [make('h4', {}, 'Example'), curl(method, path, undefined, undefined, operation)] : [];
  return [
    make('h4', {}, 'Body'),
    ...prose(operation.requestBody.description),
    ...Object.entries(operation.requestBody.content).map(([mediaType, content], place) => make('details', place ? {} : { open: '' },
      make('summary', {}, make('code', {}, mediaType), ' ', make('span', { class: 'type' }, typed(content.schema ?? {}))),
      ...(nameOf(content.schema ?? {}) ? [] : schemaBody(content.schema ?? {})),
      ...examples(content).flatMap(({ summary, value }) => [make('p', { class: 'soft' }, summary), curl(method, path, mediaType, value, operation)]))),
  ];
}

function responses(operation) {
  return Object.entries(operation.responses).map(([status, response]) => make('details', {},
    make('summary', {}, make('span', { class: `status ${status < 400 ? 'good' : 'bad'}` }, status), ' ', inline(response.description)),
    ...Object.entries(response.headers ?? {}).map(([name, header]) => make('p', {}, make('code', {}, name), ' ', inline(header.description ?? ''))),
    ...Object.entries(response.content ?? {}).flatMap(([mediaType, content]) => [
      make('p', {}, make('code', {}, mediaType), ' ', make('span', { class: 'type' }, typed(content.schema ?? {}))),
      ...(content.schema?.type === 'string' ? schemaBody(content.schema) : []),
      ...examples(content).flatMap(({ summary, value }) => [make('p', { class: 'soft' }, summary), pretty(value)]),
    ])));
}

function parameters(operation) {
  if (!operation.parameters) return [];
  return [make('h4', {}, 'Parameters'), make('dl', {}, operation.parameters.flatMap((parameter) => [
    make('dt', {}, make('code', {}, parameter.name), ' ', make('span', { class: 'type' }, `${parameter.in}, `, typed(parameter.schema), limits(parameter.schema) && `, ${limits(parameter.schema)}`),
      parameter.required ? make('span', { class: 'must' }, ' required') : ''),
    make('dd', {}, prose(parameter.description), prose(parameter.schema.description)),
  ]))];
}

function operationSection(method, path, operation) {
  return make('section', { id: operation.operationId },
    make('h3', {}, operation.summary),
    make('p', { class: 'route' }, make('span', { class: `method ${method}` }, method.toUpperCase()), make('code', {}, path)),
    ...prose(operation.description),
    ...parameters(operation),
    ...requestBody(method, path, operation),
    make('h4', {}, 'Answers'),
    ...responses(operation));
}

const main = document.querySelector('main');
const nav = document.querySelector('nav');
document.title = spec.info.title;
document.querySelector('h1').append(spec.info.title, make('small', {}, spec.info.version));
main.append(...prose(spec.info.description));
const all = Object.entries(spec.paths).flatMap(([path, item]) => Object.entries(item).map(([method, operation]) => ({ method, path, operation })));
for (const tag of spec.tags) {
  const list = make('ul');
  nav.append(make('h2', {}, tag.name), list);
  for (const { method, path, operation } of all.filter((one) => one.operation.tags.includes(tag.name))) {
    list.append(make('li', {}, make('a', { href: `#${operation.operationId}` }, operation.summary)));
    main.append(operationSection(method, path, operation));
  }
}
const names = make('ul');
nav.append(make('h2', {}, 'schemas'), names);
main.append(make('h2', {}, 'Schemas'));
for (const [name, schema] of Object.entries(spec.components.schemas)) {
  names.append(make('li', {}, make('a', { href: `#${anchor(name)}` }, name)));
  main.append(make('section', { id: anchor(name) },
    make('h3', {}, name, ' ', make('span', { class: 'type' }, limits(schema))),
    ...schemaBody(schema)));
}
// The browser looked for the place before it was there.
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();

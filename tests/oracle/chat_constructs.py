"""Small templates, one for each construct of the subset, and the variables they see. chat.py records what jinja2 makes of them."""

VARS = {
    "name": "Ada",
    "empty": "",
    "nothing": None,
    "yes": True,
    "no": False,
    "n": 7,
    "zero": 0,
    "minus": -3,
    "pi": 3.25,
    "big": 9007199254740993,
    "tiny": 1e-7,
    "huge": 1e22,
    "text": "  Hello, Wörld!\n second  line\t",
    "mixed": "hELLO wORLD it's (one) two-three",
    "quotes": "it's \"quoted\" \\ back",
    "uni": "héllo → 日本語 😀 \u200b\u00a0 \u0001 é",
    "lines": "a\nb\n\nc\n",
    "crlf": "a\r\nb\rc\x0bd\u2028e",
    "words": ["pear", "Apple", "fig", "apple", "Fig"],
    "numbers": [3, 1, 2, 1, 3.0, -1],
    "nested": [[1, 2], [3, [4, 5]], []],
    "mixed_list": [1, "1", 1.0, True, None, [], {}],
    "person": {"name": "Bob", "age": 41, "items": ["x"], "tags": {"b": 1, "a": 2}, "get": "key", "é": "accent"},
    "empty_list": [],
    "empty_dict": {},
    "people": [
        {"name": "Zoe", "age": 30, "role": "user", "pet": {"kind": "cat"}},
        {"name": "bob", "age": 25, "role": "tool"},
        {"name": "Ann", "age": 30, "role": "user", "pet": None},
    ],
    "schema": {
        "type": "object",
        "properties": {"q": {"type": "string", "description": "a <b> & 'c' \"d\" é 😀 \u007f \u2028"}, "n": {"type": ["integer", "null"]}},
        "required": ["q"],
        "numbers": [1, 1.5, 1e100, -0.0, 12345678901234567890.0, True, None],
    },
}

# Each is rendered alone. What jinja2 refuses is recorded as an error: lookfar must refuse it, too.
CONSTRUCTS = r"""
plain text
{{ name }}{{ "x" }}{{ 'y' }}
{{ 1 }} {{ 1.0 }} {{ 1.5e3 }} {{ 1e-5 }} {{ 1e16 }} {{ 123456789012345680.0 }} {{ 0.1 }} {{ 100.0 }} {{ 1e15 }} {{ 0.0001 }} {{ 2.5e-5 }}
{{ true }} {{ True }} {{ false }} {{ False }} {{ none }} {{ None }}
{{ undefined_name }}|{{ person.missing }}|{{ person['missing'] }}|{{ words[99] }}|{{ name.missing }}|{{ n.missing }}|{{ nothing.missing }}|{{ words['x'] }}
{{ undefined_name.x }}
{{ undefined_name['x'] }}
{{ undefined_name + 1 }}
{{ 'a' + undefined_name }}
{{ 'a' ~ undefined_name ~ 1 ~ none ~ [1] }}
{{ undefined_name() }}
{{ undefined_name is defined }} {{ name is defined }} {{ undefined_name is not defined }} {{ person.missing is undefined }} {{ person.name is defined }}
{{ "tab\tnew\nquote\"back\\slash\'" }} {{ '\x41\u00e9\U0001F600\101\q' }}
{{ "two" "strings" 'in a row' }}
{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }}
{{ 7.5 // 2 }} {{ -7.5 // 2 }} {{ 7.5 % 2 }} {{ -7.5 % 2 }} {{ 1 / 3 }} {{ 4 / 2 }} {{ 1.5 * 2 }} {{ 3 - 1.5 }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ -n }} {{ +n }} {{ --n }} {{ -pi }} {{ -n ** 2 }} {{ 2 * -3 }} {{ -n|abs }}
{{ yes + 1 }} {{ yes * 3 }} {{ -yes }}
{{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ [1, 2] * 2 }} {{ 'a' * 0 }} {{ 'a' * -1 }} {{ (1,) * 3 }}
{{ 'a' + 'b' }} {{ [1] + [2] }} {{ (1, 2) + (3,) }}
{{ 'a' + 1 }}
{{ [1] + (2,) }}
{{ none + 'x' }}
{{ 'a' - 'b' }}
{{ -'a' }}
{{ 1 < 2 }} {{ 2 <= 2 }} {{ 3 > 4 }} {{ 3 >= 3 }} {{ 1 == 1.0 }} {{ 1 == true }} {{ 'a' == 'a' }} {{ 'a' != 'b' }} {{ none == none }} {{ [1, 2] == [1, 2] }} {{ [1] == (1,) }} {{ {'a': 1} == {'a': 1.0} }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1 != 2 }} {{ 3 > 2 > 1 > 0 }} {{ 'a' in 'abc' in ['abc'] }}
{{ 'a' < 'b' }} {{ 'Z' < 'a' }} {{ 'é' > 'z' }} {{ [1, 2] < [1, 3] }} {{ [1] < [1, 0] }} {{ (1, 'a') < (1, 'b') }} {{ '' < 'a' }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ undefined_name < 1 }}
{{ undefined_name == other_undefined }} {{ undefined_name == none }} {{ undefined_name != '' }}
{{ 'a' in 'cat' }} {{ 'x' not in 'cat' }} {{ '' in 'cat' }} {{ 2 in [1, 2] }} {{ 'name' in person }} {{ 'x' in person }} {{ 1.0 in [1] }} {{ 1 in (1, 2) }} {{ 'a' in undefined_name }} {{ 'name' in person.keys() }} {{ 41 in person.values() }} {{ 3 in range(5) }}
{{ 1 in 'abc' }}
{{ 1 in none }}
{{ 1 in 5 }}
{{ not yes }} {{ not not yes }} {{ not empty }} {{ not 0 }} {{ not 'x' and yes }} {{ not (yes and no) }}
{{ yes and 'x' }} {{ no and 'x' }} {{ empty or 'default' }} {{ 'a' or 'b' }} {{ none or no or 0 or [] }} {{ 1 and 2 and 3 }} {{ undefined_name or 'u' }}
{{ 'a' if yes else 'b' }} {{ 'a' if no else 'b' }} {{ 'a' if no }} {{ 'a' if no else 'b' if no else 'c' }} {{ ('x' if yes) ~ 'y' }}
{{ not 1 == 2 }} {{ 1 + 1 == 2 and 2 * 2 == 4 }} {{ 'a' ~ 'b' == 'ab' }} {{ 'a' + 2 ~ 3 + 'b' }} {{ 2 * 3 ~ 4 }}
{{ [1, 'two', 3.0, none, true, [4], (5,), (), {'six': 7}] }} {{ [] }} {{ {} }} {{ () }} {{ (1) }} {{ (1,) }} {{ 1, 2 }} {{ [1, 2,] }} {{ {'a': 1,} }}
{{ {'a': 1, 'b': [2, {'c': none}], 3: 'three', 1.5: true, none: 0} }}
{{ quotes }} {{ [quotes] }} {{ ["it's"] }} {{ ['say "x"'] }} {{ ['a\\b\n\t\r\x00\x7f'] }}
{{ [uni] }}
{{ ['\u00ad\u0378\ue000\u3000'] }}
{{ person }}
{{ people }}
{{ schema }}
{{ big }} {{ tiny }} {{ huge }} {{ [big, tiny, huge, -0.0] }}
{{ words[0] }} {{ words[-1] }} {{ words[yes] }} {{ words.0 }} {{ nested[1][1][0] }} {{ nested.1.0 }} {{ name[0] }} {{ name[-1] }} {{ uni[1] }} {{ uni[-1] }} {{ uni[8] }}
{{ words[1:] }} {{ words[:2] }} {{ words[1:3] }} {{ words[-2:] }} {{ words[:-1] }} {{ words[::2] }} {{ words[::-1] }} {{ words[3:0:-1] }} {{ words[10:] }} {{ words[-10:2] }} {{ words[2:1] }} {{ words[:] }} {{ words[1::2] }} {{ words[-1:0:-2] }}
{{ uni[2:9] }} {{ uni[::-1] }} {{ uni[-3:] }} {{ uni[::3] }} {{ uni[:0] }} {{ (1, 2, 3)[1:] }} {{ range(9)[2:5] | list }} {{ name[5:2] }} {{ name[::-2] }}
{{ words[::0] }}
{{ words[1.5] }}|{{ n[0] }}|{{ none[0] }}|{{ person[[1]] }}|{{ 'abc'['x'] }}
{{ words['a':] }}
{{ person[1:] }}
{{ n[1:] }}
{{ undefined_name[1:] }}
{{ name[:'x'] }}
{{ person.name }} {{ person['name'] }} {{ person.age }} {{ person.tags.a }} {{ person['tags']['b'] }} {{ person["é"] }} {{ person.get('name') }} {{ person.get('x') }} {{ person.get('x', 'y') }} {{ person['get'] }} {{ person['items'] }}
{{ person.items() }} {{ person.keys() }} {{ person.values() }} {{ person.tags.items() | list }} {{ person.tags.keys() | list }} {{ person.items() | length }} {{ empty_dict.items() }}
{{ person.pop is defined }} {{ person.update is defined }} {{ person.items is defined }} {{ name.upper is defined }} {{ name.nothing is defined }}
{{ person.update({'a': 1}) }}
{{ words.append(1) }}
{{ name.nothing() }}
{{ name() }}
{{ person.name() }}
{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abcba'.lstrip('ab') }}|{{ 'abcba'.rstrip('ab') }}|{{ '\u3000\u00a0x\u2003'.strip() }}|{{ text.strip(none) }}|{{ 'éaé'.strip('é') }}
{{ 'a,b,,c'.split(',') }} {{ 'a,b,,c'.split(',', 1) }} {{ ' a  b\n c '.split() }} {{ ' a  b  c '.split(none, 1) }} {{ ''.split(',') }} {{ ''.split() }} {{ 'abc'.split('x') }} {{ 'aXXbXXc'.split('XX')[-1] }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a,b'.rsplit(',') }} {{ 'aaa'.rsplit('aa', 1) }} {{ 'a,b'.split(',', 0) }}
{{ 'a'.split('') }}
{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ crlf.splitlines() }} {{ ''.splitlines() }}
{{ name.startswith('A') }} {{ name.startswith('a') }} {{ name.endswith('da') }} {{ name.endswith(('x', 'a')) }} {{ name.startswith('') }} {{ name.startswith(()) }} {{ empty.endswith('x') }}
{{ name.startswith(1) }}
{{ 'aaa'.replace('a', 'b') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'abc'.replace('', '-') }} {{ 'abc'.replace('', '-', 2) }} {{ 'abc'.replace('x', 'y') }} {{ 'abc'.replace('b', '') }} {{ ''.replace('', 'x') }} {{ 'é日'.replace('', '.') }} {{ 'aaaa'.replace('aa', 'a') }}
{{ mixed.upper() }} {{ mixed.lower() }} {{ mixed.title() }} {{ mixed.capitalize() }} {{ 'éàÇ'.upper() }} {{ 'ÉÀÇ'.lower() }} {{ 'ǆ'.title() }} {{ ''.capitalize() }}
{{ ', '.join(['a', 'b']) }} {{ ''.join(words) }} {{ '-'.join('abc') }} {{ ','.join([]) }} {{ ','.join(person) }}
{{ ', '.join([1, 2]) }}
{{ 'hello'.find('l') }} {{ 'hello'.find('x') }} {{ '日本語'.find('語') }} {{ 'hello'.rfind('l') }} {{ 'é日é'.rfind('é') }} {{ 'x'.rfind('y') }} {{ 'ab'.rfind('') }} {{ 'hello'.count('l') }} {{ 'aaaa'.count('aa') }} {{ 'abc'.count('') }} {{ 'hello'.removeprefix('he') }} {{ 'hello'.removesuffix('lo') }} {{ 'hello'.removeprefix('x') }}
{{ '123'.isdigit() }} {{ '12a'.isdigit() }} {{ ''.isdigit() }} {{ 'abc'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' \t'.isspace() }} {{ 'ABC'.isupper() }} {{ 'aBC'.isupper() }} {{ 'abc1'.islower() }} {{ '1'.islower() }} {{ 'éa'.isalpha() }}
{{ words.index('fig') }} {{ words.count('fig') }} {{ (1, 2, 1).count(1) }}
{{ words.index('nope') }}
{{ text | trim }}|{{ 'xax' | trim('x') }}|{{ 5 | trim }}|{{ none | trim }}|{{ [1, ' '] | trim }}|{{ undefined_name | trim }}
{{ words | length }} {{ name | length }} {{ uni | length }} {{ person | length }} {{ undefined_name | length }} {{ range(4) | length }} {{ (1, 2) | count }} {{ '' | length }}
{{ n | length }}
{{ none | length }}
{{ words | map('upper') | length }}
{{ mixed | upper }} {{ mixed | lower }} {{ mixed | capitalize }} {{ mixed | title }} {{ 5 | upper }} {{ none | lower }} {{ 'foo-bar baz[qux]{a}<b>(c) d\te' | title }} {{ uni | upper }}
{{ words | join }} {{ words | join(', ') }} {{ numbers | join('|') }} {{ people | join(', ', attribute='name') }} {{ people | join(', ', 'age') }} {{ 'abc' | join('-') }} {{ [none, 1.0, [2]] | join(' ') }} {{ person | join(',') }} {{ undefined_name | join(',') }} {{ words | join(1) }}
{{ n | join(',') }}
{{ undefined_name | default('d') }} {{ name | default('d') }} {{ empty | default('d') }} {{ empty | default('d', true) }} {{ none | default('d') }} {{ nothing | default('d', boolean=true) }} {{ undefined_name | default }}| {{ person.x | default(person.name) }} {{ undefined_name | d('short') }}
{{ words | first }} {{ words | last }} {{ [] | first }}|{{ [] | last }}|{{ 'abc' | first }} {{ 'abc' | last }} {{ person | first }} {{ person | last }} {{ words | map('upper') | first }} {{ range(3) | last }}
{{ words | map('upper') | last }}
{{ n | first }}
{{ words | map('upper') | list }} {{ people | map(attribute='name') | list }} {{ people | map(attribute='pet.kind', default='?') | list }} {{ people | map(attribute='age') | join(',') }} {{ nested | map('length') | list }} {{ words | map('replace', 'p', 'P') | list }} {{ none | map('upper') | list }} {{ [[1, 2], [3, 4]] | map(attribute=1) | list }} {{ [[1, 2], [3, 4]] | map(attribute='0') | list }} {{ words | map('default', 'x') | list }}
{{ people | map(attribute='pet.kind') | list }}
{{ words | map('no_such_filter') | list }}
{{ numbers | select('odd') | list }}
{{ [1, 2, 3, 4] | select('even') | list }} {{ [1, 2, 3, 4] | reject('divisibleby', 3) | list }} {{ mixed_list | select | list }} {{ mixed_list | reject | list }} {{ words | select('equalto', 'fig') | list }} {{ words | reject('in', ['fig', 'pear']) | list }} {{ mixed_list | select('string') | list }} {{ [1, 5, 9] | select('gt', 4) | list }} {{ [1, 5, 9] | select('<=', 5) | list }}
{{ people | selectattr('role', 'equalto', 'user') | list | length }} {{ people | rejectattr('role', 'eq', 'user') | map(attribute='name') | list }} {{ people | selectattr('pet') | map(attribute='name') | list }} {{ people | rejectattr('pet') | map(attribute='name') | list }} {{ people | selectattr('pet', 'defined') | map(attribute='name') | list }} {{ people | selectattr('pet', 'none') | list }} {{ people | selectattr('age', 'in', [25]) | map(attribute='name') | first }} {{ undefined_name | selectattr('x') | list }}
{% if people | selectattr('role', 'equalto', 'nobody') %}a generator is true{% endif %} {% if people | selectattr('role', 'equalto', 'nobody') | list %}x{% else %}an empty list is false{% endif %}
{% set once = words | map('upper') %}{{ once | list }} {{ once | list }} {{ once is sequence }} {{ once is iterable }} {{ once is string }}
{{ words | sort }} {{ words | sort(reverse=true) }} {{ words | sort(case_sensitive=true) }} {{ numbers | sort }} {{ people | sort(attribute='age') | map(attribute='name') | list }} {{ people | sort(attribute='age', reverse=true) | map(attribute='name') | list }} {{ people | sort(attribute='name') | map(attribute='name') | list }} {{ person.tags | sort }} {{ 'hello' | sort | join }}
{{ [1, 'a'] | sort }}
{{ person.tags | dictsort }} {{ person.tags | dictsort(by='value') }} {{ {'b': 1, 'A': 2, 'a': 3, 'B': 0} | dictsort }} {{ {'b': 1, 'A': 2} | dictsort(true) }} {{ {'b': 1, 'A': 2} | dictsort(reverse=true) }} {% for k, v in schema | dictsort %}{{ k }} {% endfor %}
{{ words | unique | list }} {{ words | unique(true) | list }} {{ numbers | unique | list }} {{ people | unique(attribute='age') | map(attribute='name') | list }}
{{ numbers | min }} {{ numbers | max }} {{ words | min }} {{ words | max }} {{ [] | min }}| {{ people | max(attribute='age') }}
{{ words | reverse | list }} {{ 'héllo' | reverse }} {{ (1, 2) | reverse | join }} {{ range(3) | reverse | list }}
{{ 'abc' | list }} {{ person.tags | list }} {{ (1, 2) | list }} {{ range(3) | list }} {{ 'é日' | list }}
{{ person.tags | items | list }} {{ undefined_name | items | list }} {% for k, v in person.tags | items %}{{ k }}={{ v }};{% endfor %}
{{ words | items | list }}
{{ '42' | int }} {{ '4.7' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 4.9 | int }} {{ -4.9 | int }} {{ true | int }} {{ ' 8 ' | int }} {{ '' | int }} {{ none | int }} {{ '1e3' | int }} {{ [] | int(-1) }} {{ '-12' | int }} {{ '+3' | int }}
{{ '4.5' | float }} {{ 3 | float }} {{ 'x' | float }} {{ 'x' | float(1.5) }} {{ none | float }} {{ '1e3' | float }} {{ ' 2 ' | float }}
{{ -5 | abs }} {{ -5.5 | abs }} {{ 3 | abs }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 2.567 | round(2) }} {{ 2.1 | round(0, 'ceil') }} {{ 2.9 | round(0, 'floor') }} {{ 42 | round }} {{ 2.675 | round(2) }} {{ 1234.5 | round(1, 'floor') }}
{{ 'a' | abs }}
{{ 5 | string }} {{ none | string ~ 'x' }} {{ [1, 'a'] | string }} {{ person.tags | string | length }} {{ '<b>' | safe }} {{ 5 | safe }} {{ true | string }}
{{ lines | indent }}|{{ lines | indent(2) }}|{{ lines | indent(2, true) }}|{{ lines | indent(width=2, first=true, blank=true) }}|{{ lines | indent('> ') }}|{{ '' | indent }}|{{ 'x' | indent(3, true) }}|{{ 'a\nb' | indent(0) }}
{{ '%s is %d years, %.2f' | format('Ada', 36, 1.5) }} {{ '%s' % 'x' }} {{ '%s-%s' % ('a', 1) }} {{ '100%%' | format }} {{ '%s' | format(none) }} {{ '%f' | format(2) }} {{ '%s' % [1] }} {{ '%i' | format(true) }}
{{ '%s %s' | format('a') }}
{{ '%s' | format('a', 'b') }}
{{ '%d' | format('a') }}
{{ schema | tojson }}
{{ schema | tojson(indent=2) }}
{{ schema | tojson(indent=0) }}
{{ schema | tojson(ensure_ascii=true) }}
{{ schema | tojson(true, 4) }}
{{ schema | tojson(separators=(',', ':')) }} {{ schema | tojson(indent=1, separators=(', ', ' : ')) }}
{{ schema | tojson(sort_keys=true) }} {{ {'b': {'d': 1, 'c': 2}, 'a': 3} | tojson(sort_keys=true, indent='\t') }}
{{ 'x' | tojson }} {{ 5 | tojson }} {{ 1.0 | tojson }} {{ 1e22 | tojson }} {{ none | tojson }} {{ true | tojson }} {{ [] | tojson }} {{ {} | tojson }} {{ [[], {}] | tojson(indent=2) }} {{ (1, 2) | tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }} {{ quotes | tojson }} {{ uni | tojson }} {{ '</script>' | tojson }} {{ '\x08\x0c\x1f\x7f' | tojson }}
{{ undefined_name | tojson }}
{{ words | map('upper') | tojson }}
{{ person.items() | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ name | no_such_filter }}
{% if no %}{{ name | no_such_filter(1) }}{{ name is no_such_test }}{% endif %}branch not taken
{{ name is no_such_test }}
{{ none is none }} {{ 0 is none }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ 0 is false }} {{ true is boolean }} {{ 1 is boolean }} {{ 1 is integer }} {{ true is integer }} {{ 1.0 is integer }} {{ 1.0 is float }} {{ 1 is number }} {{ true is number }} {{ 'a' is number }}
{{ 'a' is string }} {{ 1 is string }} {{ {} is mapping }} {{ [] is mapping }} {{ [] is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ none is iterable }} {{ [] is sequence }} {{ 'a' is sequence }} {{ {} is sequence }} {{ 1 is sequence }} {{ (1,) is sequence }} {{ undefined_name is sequence }} {{ undefined_name is iterable }} {{ undefined_name is mapping }} {{ {}.items() is sequence }} {{ {}.items() is iterable }} {{ range is callable }} {{ name is callable }} {{ range(2) is sequence }}
{{ 3 is odd }} {{ 4 is even }} {{ -3 is odd }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 'a' is in 'abc' }} {{ 1 is in [1] }} {{ 'a' is not in ['b'] }} {{ 1 is eq 1 }} {{ 1 is equalto(1) }} {{ 1 is ne 2 }} {{ 2 is gt 1 }} {{ 2 is ge 2 }} {{ 1 is lt 2 }} {{ 1 is le 1 }} {{ 'abc' is lower }} {{ 'ABC' is upper }} {{ 'aBc' is lower }} {{ none is sameas none }} {{ true is sameas 1 }} {{ 2 is greaterthan 1 }} {{ 1 is lessthan 2 }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ 'zzz' is filter }}
{{ 'a' is odd }}
{{ 1 is none is none }}
{{ 1 is defined and 2 is defined or no }} {{ x is defined and x is not none }} {{ not x is defined }} {{ name is string and name | length > 2 }} {{ person.name is defined }} {{ 1 is eq 1 and true }}
{% if yes %}A{% endif %}{% if no %}B{% else %}C{% endif %}{% if no %}D{% elif yes %}E{% else %}F{% endif %}{% if no %}G{% elif no %}H{% elif 1 == 1 %}I{% endif %}
{% if undefined_name %}a{% endif %}{% if empty_list %}b{% endif %}{% if empty_dict %}c{% endif %}{% if 0.0 %}d{% endif %}{% if ' ' %}e{% endif %}{% if [0] %}f{% endif %}{% if range(0) %}g{% endif %}{% if empty_dict.items() %}h{% endif %}
{% if 1, 2 %}tuple{% endif %}
{% for w in words %}{{ loop.index }}/{{ loop.length }} {{ w }}{% if not loop.last %}, {% endif %}{% endfor %}
{% for w in words %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}{{ loop.depth0 }} {% endfor %}
{% for w in words if w | length > 3 %}{{ loop.index }}{{ w }}{{ loop.last }} {% else %}none{% endfor %}
{% for w in [] %}x{% else %}empty{% endfor %}{% for w in words if w == 'zzz' %}x{% else %}filtered{% endfor %}{% for w in undefined_name %}x{% else %}undefined{% endfor %}
{% for x in none %}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for k in person %}{{ k }} {% endfor %}{% for k, v in person.tags.items() %}{{ k }}={{ v }} {% endfor %}{% for c in 'aé日' %}[{{ c }}]{% endfor %}{% for a, b in [[1, 2], (3, 4)] %}{{ a + b }} {% endfor %}{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}{% for i in 1, 2, 3 %}{{ i }}{% endfor %}
{% for a, b in [[1]] %}{% endfor %}
{% for a in [1, 2] %}{% for b in [3, 4] %}{{ loop.index }}{{ a }}{{ b }} {% endfor %}{{ loop.index }};{% endfor %}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}
{% break %}
{% for i in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for i in [1, 2, 3] %}{{ loop.cycle('odd', 'even') }} {{ loop.changed(i // 2) }} {% endfor %}
{% for i in [1] %}{{ loop.nothing }}|{{ loop is iterable }}{% endfor %}
{% set x = 1 %}{{ x }}{% set x = x + 1 %}{{ x }}{% set a, b = 1, 'two' %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}{% set y = 'a' if no else 'b' %}{{ y }}
{% set a, b = [1, 2, 3] %}
{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + 10 %}{{ x }} {% endfor %}{{ x }}
{% set x = 1 %}{% if yes %}{% set x = 2 %}{% endif %}{{ x }}{% for i in [1] %}{% if yes %}{% set z = 3 %}{% endif %}{{ z }}{% endfor %}{{ z is defined }}
{% for x in [1, 2] %}{% set y = x %}{% endfor %}{{ x is defined }} {{ y is defined }} {% set i = 'kept' %}{% for i in [1] %}{% endfor %}{{ i }}
{% set ns = namespace(count=0, items=[]) %}{% for w in words %}{% set ns.count = ns.count + w | length %}{% set ns.items = ns.items + [w] %}{% endfor %}{{ ns.count }} {{ ns.items }} {{ ns.missing is defined }} {{ ns['count'] }}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }} {{ ns }}
{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a + ns.b }}
{% set person.name = 'x' %}
{% set block %}a {{ name }} b{% endset %}[{{ block }}]{% set up | upper %}shout {{ name }}{% endset %}{{ up }}{% set many | upper | replace('A', '4') | trim %}  banana {% endset %}[{{ many }}]
{% set x = 1 %}{% set block %}{% set x = 2 %}{{ x }}{% endset %}{{ block }}{{ x }}
{% macro greet(who, greeting='Hello', mark=greeting[0]) %}{{ greeting }}, {{ who }}{{ mark }}{% endmacro %}{{ greet('A') }} {{ greet('B', 'Hi') }} {{ greet(who='C', mark='!') }} {{ greet('D', mark='?') }} [{{ greet() }}] {{ greet.name }} {{ greet is callable }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m(a, b=1, c) %}{% endmacro %}
{% macro m() %}{{ varargs }} {{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }} {{ m() }}{% macro k(a) %}{{ a }}{{ kwargs.b }}{% endmacro %}{{ k(1, b=2) }}
{% macro fact(n) %}{% if n <= 1 %}1{% else %}{{ n * fact(n - 1) | int }}{% endif %}{% endmacro %}{{ fact(5) }}
{% macro tree(node, depth=0) %}{{ '  ' * depth }}{{ node.n }};{% for c in node.c %}{{ tree(c, depth + 1) }}{% endfor %}{% endmacro %}{{ tree({'n': 1, 'c': [{'n': 2, 'c': [{'n': 3}]}, {'n': 4}]}) }}
{% set x = 1 %}{% macro m() %}{{ x }}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{% set x = 2 %}{{ m() }}{{ x }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}late{% endmacro %}{{ a() }}
{% macro wrap(tag) %}<{{ tag }}>{{ caller() }}</{{ tag }}>{% endmacro %}{% call wrap('b') %}bold {{ name }}{% endcall %}{% macro each(list) %}{% for i in list %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(item) each([1, 2]) %}[{{ item }}]{% endcall %}
{% macro none_called() %}x{% endmacro %}{% call none_called() %}y{% endcall %}
{% filter upper %}shout {{ name }}{% endfilter %}{% filter replace('a', 'b') | upper %}aha{% endfilter %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% set c = 3 %}{% endwith %}{{ a is defined }}{{ c is defined }}{% with %}{% set z = 1 %}{{ z }}{% endwith %}
{% generation %}answer {{ name }}{% set g = 1 %}{% endgeneration %}{{ g is defined }}
{% raw %}{{ not }} {% this %} {# either #}{% endraw %}{%- raw -%}  x  {%- endraw -%}  y
{# a comment #}a{#- b -#} c {##}d{# {{ x }} {% if %} #}
{{ raise_exception('no: ' ~ name) }}
{% if no %}{{ raise_exception('never') }}{% endif %}fine
{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y %A %B %H:%M:%S %j %%') }} {{ strftime_now('%-d/%-m') }} {{ strftime_now('') }}
{{ range(3) | list }} {{ range(1, 3) | list }} {{ range(5, 1, -2) | list }} {{ range(0) | list }} {{ range(3)[1] }} {{ range(3) == range(0, 3) }} {{ range(-2) | list }}
{{ range() }}
{{ range(1, 2, 0) }}
{{ range(1000000) | length }}
{{ dict(a=1, b='x') }} {{ dict() }} {{ dict({'a': 1}, b=2) }} {{ dict({'a': 1}, a=3).a }}
{{ lipsum is defined and false }}
{% include 'x' %}
{% import 'x' as y %}
{% extends 'x' %}
{% nonsense %}
{% if yes %}
{% for x in words %}
{% endif %}
{{ name
{{ name }
{% if %}x{% endif %}
{{ }}
{{ 1 2 }}
{{ (1 }}
{{ [1 }}
{{ 'abc }}
{{ name. }}
{{ a b }}
{{ name | }}
{{ name is }}
{{ 1 if }}
{{ *a }}
{{ f(a=1, 2) }}
{{ name ! }}
{{ name ; }}
{# never closed
{% raw %} never closed
{% set 1 = 2 %}
{% set a.b.c = 2 %}
{% set = 2 %}
{% for in x %}{% endfor %}
{% for x words %}{% endfor %}
{% macro %}{% endmacro %}
{% macro m(1) %}{% endmacro %}
a {%- if yes -%}  b  {%- endif -%} c {{- name -}} d {{ name -}}   e  {{- name }} f {#- x -#}  g
  {% if yes %}  x  {% endif %}  y
a  {%+ if yes %}b{% endif +%}  c
{{ '{{ not a tag }}' }} {{ "{%" }} {{ {'a': {'b': 1}} }} {{ {'a': {'b': {}}} }}
{{ {"a": {"b": "}}"}}.a.b }}
{{ [[1, 2], [3]][0][1] }} {{ {'a': [1, {'b': 2}]}.a[1].b }} {{ ('a', 'b')[1] }} {{ 'abc'[1] }} {{ 'abc'.upper()[0] }} {{ ('a' ~ 'b').upper() }} {{ [3, 1] | sort | first }} {{ (words | first)[0] | upper }}
{{ (1, 2) | first }} {{ 1.5 | int + 1 }} {{ 'x' | upper ~ 'y' }} {{ n | string + 'x' }} {{ words | length > 2 and yes }} {{ words | length - 1 }}
{{ -words | length }}
{{ words | join(', ') | upper | replace('A', 'a') | trim | length }} {{ loop is defined }} {{ (words | map('length') | list) == [4, 5, 3, 5, 3] }}
{{ true and false or true }} {{ true or false and false }} {{ not true or true }} {{ 1 == 1 and not 2 == 3 }} {{ 1 in [1] and 2 not in [1] }} {{ not 1 in [2] }}
{{ 'é' ~ 'ü' }} {{ "日本" }} {% if 'é' == 'é' %}same{% endif %}
{{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }}
"""

# Those with line ends, which white space control is about; separated by lines of '=====' alone.
BLOCKS = """{{ "line one
line two" }}
{#
lines #}d
=====
a
{% if yes %}
b
{% endif %}
c
=====
{% for i in [1, 2] %}
  {{ i }}
{% endfor %}
end
=====
  {% if yes %}
    x
  {% endif %}
y

=====
{%- for i in [1, 2] -%}
  {{ i }}
{%- endfor -%}
end
=====
{# comment #}
a
  {# comment #}
b {# inline #}
c
  {#- trimmed -#}
d
=====
a

{%- if yes %}

b

{%- endif %}

c
=====
a
   {{ name }}
b {{- name }}
   {{ name -}}
c
=====
{% if yes +%}
kept
{%+ endif %}
x
=====
    {%+ if yes %}y{% endif %}
=====
{% set x = 1 -%}

text
=====
{% raw %}
{{ x }}
{% endraw %}
after
=====
{% raw -%}

{{ x }}
   {%- endraw %}

after
=====
  {% raw %} a {% endraw %}
b
=====
a	{% if yes %}	b	{% endif %}	c
=====
{% macro m(x) -%}
  [{{ x }}]
{%- endmacro %}
{{ m(1) }}
{{ m(2) }}
=====
{% for m in people %}
{% if m.role == 'user' %}
U: {{ m.name }}
{% elif m.role == 'tool' %}
T: {{ m.name }}
{% endif %}
{% endfor %}
=====
one
two

=====
last line ends


=====
{{ name }}

{{ name }}
=====

{% if yes %}

x
{% endif %}

=====
{{ {
  'a': 1,
  'b': [1,
        2]
} | tojson }}
=====
a {% if yes %} b
{% endif %} c
=====
\u00a0 {% if yes %}no-break space{% endif %}
=====
a\r\nb\r{% if yes %}\r\nc\r\n{% endif %}\r\nd"""

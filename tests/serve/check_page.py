"""The page of lookfar serve in headless Chromium: what a person does with it, and what a model may try on it.

    check_page.py LOOKFAR MODEL [SCREENSHOT_FOLDER]

Needs selenium and Debian's chromium-driver; says so and passes where they are not there.
"""
import os
import shutil
import sys
import time

from server import Server

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    webdriver = None

RENDER = r"""
const box = document.createElement('div');
renderMarkdown(box, arguments[0], arguments[1]);
return box.innerHTML;
"""

# Markdown, and the elements it must become: every character is kept as text.
MARKDOWN = [
    ("# One\n\ntwo *three* **four** `five`", "<h1>One</h1><p>two <em>three</em> <strong>four</strong> <code>five</code></p>"),
    ("- a\n- b\n\n3. c\n4. d", '<ul><li>a</li><li>b</li></ul><ol start="3"><li>c</li><li>d</li></ol>'),
    ("```c\nint *x = &y;\n```\nend", "<pre><code>int *x = &amp;y;</code></pre><p>end</p>"),
    ("```\nopen", "<pre><code>open</code></pre>"),
    ("> quoted\n> on", "<blockquote>quoted<br>on</blockquote>"),
    ("a_b_c and 2*3*4", "<p>a_b_c and 2*3*4</p>"),
    ("<img src=x onerror=alert(1)>", "<p>&lt;img src=x onerror=alert(1)&gt;</p>"),
    ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
    ('[x](https://a.example/"onmouseover=alert(1))',
     '<p><a href="https://a.example/&quot;onmouseover=alert(1" rel="noopener noreferrer nofollow" target="_blank">x</a>)</p>'),
    ("---", "<hr>"),
]


def browser(width, height, dark):
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--window-size={width},{height}"):
        options.add_argument(argument)
    if width < 600:
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2.0}})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = shutil.which("chromium") or ""
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    set_scheme(driver, dark)
    return driver


def set_scheme(driver, dark):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                           {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})


def wait(what, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("waited too long")


def say(driver, text, by_button=False):
    """Says something, by the key for it or the button (a phone's key begins a line), and waits for the answer."""
    turns = driver.execute_script("return current === null ? 0 : current.turns.length")
    driver.find_element(By.ID, "input").send_keys(text)
    if by_button:
        driver.find_element(By.ID, "send").click()
    else:
        driver.find_element(By.ID, "input").send_keys(Keys.RETURN)
    wait(lambda: driver.execute_script("return running === null && current !== null && current.turns.length === arguments[0] && "
                                       "current.turns.at(-1).answers.every((a) => a.done)", turns + 1))
    time.sleep(0.2)


def check(url, folder):
    shots = 0

    def shot(driver, name):
        nonlocal shots
        shots += 1
        if folder:
            driver.save_screenshot(os.path.join(folder, name + ".png"))

    driver = browser(1180, 820, dark=False)
    driver.get(url)
    wait(lambda: driver.execute_script("return $('model').textContent !== ''"))
    white = driver.execute_script(RENDER, "The dog ran. ", [[3, 0], [8, 1], [13, 1]])
    assert white == '<p>The <span class="accepted">dog </span><span class="accepted">ran. </span></p>', white
    for source, expected in MARKDOWN:
        found = driver.execute_script(RENDER, source, [])
        assert found == expected, f"{source!r}: found {found}, expected {expected}"
        for cut in range(1, len(source)):  # spans change no text
            driver_html = driver.execute_script(RENDER, source, [[cut, 1], [len(source), 0]])
            assert driver_html.replace('<span class="accepted">', "").replace("</span>", "") == expected, (source, cut)
    shot(driver, "empty")
    driver.execute_script("settings.mode = 'text'; settings.temperature = 0; settings.max = '120'; settings.proposer = 'ngram'; applySettings()")
    say(driver, "Once upon a time, there was a little girl named Lily. One day, Lily")
    first = driver.execute_script("return current.turns[0].answers[0]")
    assert first["text"] and first["stats"]["tokens"] == 120, first
    assert not first.get("error"), first
    assert driver.find_elements(By.CSS_SELECTOR, ".accepted"), "no token was shaded"
    shot(driver, "light")
    driver.execute_script("$('compare').click()")
    say(driver, " The end. Then she")
    compared = driver.execute_script("return current.turns[1].answers.map((a) => a.text)")
    assert len(compared) == 2 and compared[0] == compared[1], compared
    assert "The same text" in driver.find_element(By.CLASS_NAME, "verdict").text
    shot(driver, "compare")
    driver.refresh()  # what was said is still there
    wait(lambda: driver.execute_script("return chats.length === 1 && $('model').textContent !== ''"))
    driver.find_element(By.CSS_SELECTOR, "#chats .open").click()
    assert len(driver.find_elements(By.CLASS_NAME, "answer")) == 3
    driver.find_element(By.ID, "settings-open").click()
    shot(driver, "settings")
    driver.find_element(By.CSS_SELECTOR, "#settings [type=submit]").click()
    set_scheme(driver, dark=True)
    shot(driver, "dark")
    log = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not log, log
    driver.quit()

    driver = browser(390, 844, dark=True)
    driver.get(url)
    wait(lambda: driver.execute_script("return $('model').textContent !== ''"))
    driver.execute_script("settings.mode = 'text'; settings.temperature = 0; settings.max = '60'; settings.proposer = 'ngram'; applySettings()")
    say(driver, "Once upon a time, there was a big dog.", by_button=True)
    widths = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1] == 390, f"wider than the screen: {widths}"
    shot(driver, "phone")
    driver.execute_script("$('compare').click()")
    say(driver, " Then he", by_button=True)
    assert driver.execute_script("return current.turns.at(-1).answers.length") == 2
    widths = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1] == 390, f"wider than the screen: {widths}"
    shot(driver, "phone-compare")
    driver.find_element(By.ID, "menu").click()
    time.sleep(0.4)
    shot(driver, "phone-menu")
    driver.quit()
    return shots


def main():
    lookfar, model = sys.argv[1:3]
    folder = sys.argv[3] if len(sys.argv) > 3 else None
    if webdriver is None or not shutil.which("chromedriver"):
        print("check_page: skipped: selenium or chromium-driver is not there")
        return
    with Server(lookfar, model) as server:
        print(f"check_page: {check(server.url, folder)} views, {len(MARKDOWN)} texts: ok")


if __name__ == "__main__":
    main()

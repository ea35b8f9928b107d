"""Badges, times with their age, sizes, icons, static files."""

from __future__ import annotations

import math
from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from neutronflow.web.monitor.assets import asset_url
from neutronflow.web.monitor.words import SIMULATED, Badge

register = template.Library()

_AGES = ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600), (86400 * 365, "d", 86400))


@register.simple_tag
def asset(name: str) -> str:
    """The address of a static file."""
    return asset_url(name)


@register.simple_tag
def icon(name: str) -> SafeString:
    """A decorative icon: whoever cannot see it misses nothing."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        asset_url("monitor/icons.svg"),
        name,
    )


@register.simple_tag
def badge(of: Badge, since: datetime | None = None) -> SafeString:
    """A state: icon, text, tone, and since when."""
    age = when(since, "since") if since else ""
    return format_html('<span class="badge t-{}">{}<b>{}</b>{}</span>', of.tone, icon(of.icon), of.text, age)


@register.simple_tag
def when(moment: datetime | None, words: str = "") -> SafeString:
    """A time as its age; the time itself, with its zone, as title. The page's script keeps the age right."""
    if moment is None:
        return format_html("{}", "–")
    return format_html(
        '<time datetime="{}" title="{}{}" data-age>{}</time>',
        moment.isoformat(timespec="milliseconds"),
        f"{words} " if words else "",
        clock(moment),
        age_text((timezone.now() - moment).total_seconds()),
    )


@register.simple_tag
def fresh(moment: datetime, stale_s: float, lost_at: datetime | None = None) -> SafeString:
    """A value's age, which becomes ``stale since`` after so many seconds, or is it where contact was lost.

    The page's script keeps it right.
    """
    since = lost_at or moment
    if lost_at is not None or (timezone.now() - moment).total_seconds() > stale_s:
        text, kind = f"stale since {short_clock(since)}", mark_safe(' class="stale"')
    else:
        text, kind = age_text((timezone.now() - moment).total_seconds()), mark_safe("")
    counts_on = "" if lost_at is not None else mark_safe(" data-age")
    threshold = format_html(' data-stale="{}"', f"{stale_s:g}") if math.isfinite(stale_s) and lost_at is None else ""
    return format_html(
        '<time datetime="{}" title="{}" data-clock="{}"{}{}{}>{}</time>',
        moment.isoformat(timespec="milliseconds"), clock(moment), short_clock(since), counts_on, threshold, kind, text,
    )  # fmt: skip


def short_clock(moment: datetime) -> str:
    """A time of today without its date."""
    local = timezone.localtime(moment)
    return f"{local:%H:%M:%S}" if local.date() == timezone.localtime().date() else f"{local:%Y-%m-%d %H:%M:%S}"


@register.simple_tag
def simulated() -> SafeString:
    """The mark of what a simulated beamline has made."""
    return badge(SIMULATED)


@register.filter
def clock(moment: datetime | None) -> str:
    """A time in the facility's zone, with the zone."""
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S %Z}" if moment else "–"


@register.filter
def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


@register.filter
def size(count: float | None) -> str:
    """Bytes as people say them."""
    if count is None or not math.isfinite(count):
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def age_text(seconds: float) -> str:
    """``just now``, ``42 s ago``, ``3 h ago``, ``12 d ago``; as the page's script has it, too."""
    if seconds < 5:
        return "just now"
    for below, unit, divisor in _AGES:
        if seconds < below:
            return f"{int(seconds // divisor)} {unit} ago"
    return f"{int(seconds // (86400 * 365))} y ago"

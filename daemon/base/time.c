/* SPDX-License-Identifier: MIT */
/*
 * The contract's `time` type, both of its forms. Days are counted in the proleptic Gregorian calendar with
 * years that start in March, so that the leap day is the last day of a year and no table is needed.
 */

#include <errno.h>
#include <stdio.h>

#include "base/time.h"

#define MS_PER_DAY UINT64_C(86400000)
#define MS_MAX     UINT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

static uint64_t days_from_date(unsigned int y, unsigned int m, unsigned int d)
{
	uint64_t year = m <= 2 ? y - 1 : y, era = year / 400, yoe = year % 400;
	uint64_t doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;

	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_from_days(uint64_t days, unsigned int *y, unsigned int *m, unsigned int *d)
{
	uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
	uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

	*d = (unsigned int)(doy - (153 * mp + 2) / 5 + 1);
	*m = (unsigned int)(mp < 10 ? mp + 3 : mp - 9);
	*y = (unsigned int)(yoe + era * 400 + (*m <= 2));
}

void time_format_iso(uint64_t ms, char out[static TIME_ISO_LEN + 1])
{
	unsigned int y, m, d, in_day;

	if (ms > MS_MAX)
		ms = MS_MAX;
	date_from_days(ms / MS_PER_DAY, &y, &m, &d);
	in_day = (unsigned int)(ms % MS_PER_DAY);
	snprintf(out, TIME_ISO_LEN + 1, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", y % 10000, m % 100, d % 100,
		 in_day / 3600000 % 100, in_day / 60000 % 60, in_day / 1000 % 60, in_day % 1000);
}

static int parse_decimal(struct bytes text, uint64_t *out)
{
	uint64_t v = 0;

	if (!text.len || text.len > 15)
		return -EINVAL;
	for (size_t i = 0; i < text.len; ++i) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return -EINVAL;
		v = v * 10 + (text.data[i] - '0');
	}
	*out = v;
	return 0;
}

/* Two or four digits at @at of a text long enough. */
static int parse_field(struct bytes text, size_t at, size_t n, uint64_t min, uint64_t max, unsigned int *out)
{
	uint64_t v;

	if (parse_decimal(BYTES(text.data + at, n), &v) || v < min || v > max)
		return -EINVAL;
	*out = (unsigned int)v;
	return 0;
}

static unsigned int days_in_month(unsigned int y, unsigned int m)
{
	if (m == 2)
		return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0 ? 29 : 28;
	return m == 4 || m == 6 || m == 9 || m == 11 ? 30 : 31;
}

static int parse_fraction(struct bytes text, uint64_t *ms)
{
	uint64_t digits, scale = 100, v = 0;

	if (!text.len || text.len > 9 || parse_decimal(text, &digits))
		return -EINVAL;
	for (size_t i = 0; i < text.len && i < 3; ++i, scale /= 10)
		v += (uint64_t)(text.data[i] - '0') * scale;
	*ms = v;
	return 0;
}

int time_parse(struct bytes text, uint64_t *ms)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd";
	const size_t n = sizeof(form) - 1;
	unsigned int y, mon, d, h, min, s;
	uint64_t frac = 0;

	if (text.len <= n || text.data[4] != '-')
		return parse_decimal(text, ms);
	for (size_t i = 0; i < n; ++i)
		if (form[i] != 'd' && text.data[i] != (uint8_t)form[i])
			return -EINVAL;
	if (text.data[text.len - 1] != 'Z')
		return -EINVAL;
	if (text.len > n + 1 &&
	    (text.data[n] != '.' || parse_fraction(BYTES(text.data + n + 1, text.len - n - 2), &frac)))
		return -EINVAL;
	if (parse_field(text, 0, 4, 1970, 9999, &y) || parse_field(text, 5, 2, 1, 12, &mon) ||
	    parse_field(text, 8, 2, 1, days_in_month(y, mon), &d) || parse_field(text, 11, 2, 0, 23, &h) ||
	    parse_field(text, 14, 2, 0, 59, &min) || parse_field(text, 17, 2, 0, 59, &s))
		return -EINVAL;
	*ms = days_from_date(y, mon, d) * MS_PER_DAY + (((uint64_t)h * 60 + min) * 60 + s) * 1000 + frac;
	return 0;
}

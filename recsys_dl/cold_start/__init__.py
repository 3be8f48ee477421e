"""New users: how good lists are after their first clicks, and which items to show them first."""

from .clicks import after_clicks, first_clicks
from .interview import answers, interview_items, judge_interview

__all__ = ["after_clicks", "answers", "first_clicks", "interview_items", "judge_interview"]
